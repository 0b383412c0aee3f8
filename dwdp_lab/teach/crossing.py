"""Looking for a crossover: ratios whose crossing is known, and the exercise."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from dwdp_lab.teach import rooflines_answers as answers
from dwdp_lab.teach.agrees import is_number
from dwdp_lab.teach.attempt import attempt, shown
from dwdp_lab.teach.exercise import Exercise, Property, Target
from dwdp_lab.teach.shown import Shown, table

MOST = 1 << 20
FAR = 300_007
"""A crossing that no doubling hits."""


@dataclass
class Ratio:
    """T_DEP / T_DWDP as it looks: rises with the tokens to 1 at `crossing` (None: never), goes on to 1.3, falls again.

    Refuses tokens that are not from 1 to `most`, and to be asked without end. `calls` counts.
    """

    crossing: int | None
    most: int
    calls: int = field(default=0, repr=False)

    def __call__(self, tokens: int) -> float:
        self.calls += 1
        if self.calls > 4 * self.most + 100:
            raise RuntimeError(f"asked {self.calls:,} times, with most = {self.most:,}")
        if not 1 <= tokens <= self.most:
            raise ValueError(f"{tokens:,} tokens are not from 1 to most = {self.most:,}")
        crossing = self.crossing or 2 * self.most
        return min(tokens / crossing, 1.0 + 0.3 * crossing / tokens)

    def __deepcopy__(self, _: object) -> Ratio:
        return self  # so that the calls are counted here

    def __str__(self) -> str:
        where = "stays below 1" if self.crossing is None else f"is first 1 at {self.crossing:,} tokens"
        return f"a ratio that {where} (most = {self.most:,})"


def _finds(name: str, cases: Iterable[tuple[int | None, int]], raising: bool = False) -> Property:
    listed = list(cases)

    def violation(answer: Any) -> str | None:
        for crossing, most in listed:
            ratio = Ratio(crossing, most)
            called = attempt(answer, (ratio, most))
            if called.error:
                return f"{ratio}: {called.error}"
            same = is_number(called.value) and float(called.value) == crossing
            if not same and not (called.value is None and crossing is None):
                return f"{ratio}: you give {shown(called.value)}, but it is {crossing}."
        return None

    return Property(name, violation, raising=raising)


def _calls(answer: Callable[..., Any]) -> float:
    ratio = Ratio(FAR, MOST)
    answer(ratio, MOST)
    return ratio.calls


def _show(answer: Any) -> Shown:
    rows = []
    for crossing, most in ((1, 8), (3, 8), (None, 8), (1000, 4096), (FAR, MOST)):
        ratio = Ratio(crossing, most)
        called = attempt(answer, (ratio, most))
        rows.append((str(ratio), str(called), f"{ratio.calls:,}"))
    return Shown(table(("", "your answer", "calls of ratio"), rows))


FEWEST_TOKENS = Exercise(
    key="rooflines.fewest_tokens",
    number="3.2",
    title="find the crossover",
    difficulty=2,
    minutes=10,
    name="fewest_tokens",
    spec="""\
`ratio(tokens)` is T_DEP / T_DWDP. It rises until it has passed 1; then it may fall again, but not below 1. Write
`fewest_tokens(ratio, most)`: the fewest tokens from 1 to `most` with a ratio of at least 1, or None if there are none.
Ask only for 1 to `most` tokens.

That is *correct*. It is *good* when it asks seldom, for a ratio may be a simulation: the target is 40 calls for a
crossover somewhere below a million.""",
    stub='''\
def fewest_tokens(ratio: Callable[[int], float], most: int) -> int | None:
    """The fewest tokens from 1 to most with a ratio of at least 1, or None."""''',
    hints=(
        "Trying 1, 2, 3, ... is correct. But once you know a number that is too small and one that is large enough, "
        "what does the number in the middle tell you?",
        "Double the tokens until the ratio is at least 1, but never go beyond most. The answer is then above the last "
        "number that was too small.",
        "Keep too_few (ratio below 1) and enough (ratio at least 1), and halve the distance until it is 1. Doubling "
        "alone gives 4 where 3 is right.",
    ),
    reference=answers.fewest_tokens,
    view=_show,
    example=lambda: (Ratio(1, 2), 2),
    properties=(
        _finds("the first length with a ratio of at least 1", [(n, 8) for n in range(1, 9)]),
        _finds("there may be none", [(None, 1), (None, 8)], raising=True),
        _finds(
            "only 1 to most tokens are asked for",
            [(1, 1), (5, 5), (None, 5), (6, 7), (1000, 1001)],
            raising=True,
        ),
        _finds("the first, not the last or the best", [(3, 4096), (100, 4096)]),
    ),
    targets=(Target(f"calls to find {FAR:,} of {MOST:,}", _calls, lambda: 40, "calls", digits=0),),
)
