"""Meeting at a source by chance: the exercise on the paper's random-state model."""

from __future__ import annotations

from typing import Any

from dwdp_lab.simulate.contention import level_probabilities
from dwdp_lab.simulate.paper import as_printed
from dwdp_lab.simulate.paper_data import paper_data
from dwdp_lab.teach import contention_answers as answers
from dwdp_lab.teach.agrees import agrees, is_number
from dwdp_lab.teach.attempt import attempt
from dwdp_lab.teach.exercise import Exercise, Property
from dwdp_lab.teach.shown import Shown, table

PRINTED: dict[int, list[str]] = {int(ranks): row for ranks, row in paper_data("table2")["rows"].items()}
"""Table 2 of the paper as printed, in per cent, by the ranks of the group."""


def _right(ranks: int, level: int) -> float:
    return level_probabilities(ranks)[level]


def _sum_to_one(answer: Any) -> str | None:
    for ranks in range(2, 9):
        called = [attempt(answer, (ranks, level)) for level in range(1, ranks)]
        for level, one in enumerate(called, 1):
            if one.error or not is_number(one.value):
                said = one.error or f"gives {one}, which is not a number."
                return f"level_probability({ranks}, {level}) {said}"
        total = sum(float(one.value) for one in called)
        if not abs(total - 1.0) <= 1e-9:
            return (
                f"{ranks} ranks: levels 1 to {ranks - 1} have {total:.6g} in all, but a pull is always at one of them."
            )
    return None


def as_the_paper(answer: Any) -> str | None:
    """The first cell of the paper's Table 2 that an answer does not give, to all digits that are printed."""
    for ranks, row in PRINTED.items():
        for level, printed in enumerate(row, 1):
            called = attempt(answer, (ranks, level))
            if called.error or not is_number(called.value):
                return f"level_probability({ranks}, {level}): {called}"
            if as_printed(100 * float(called.value), printed) != float(printed):
                percent = 100 * float(called.value)
                return f"DWDP{ranks}, C = {level}: Table 2 prints {printed} %, level_probability gives {percent:.6g} %."
    return None


def _show(answer: Any) -> Shown:
    levels = range(1, 8)

    def cell(ranks: int, level: int) -> str:
        if level >= ranks:
            return ""
        called = attempt(answer, (ranks, level))
        return f"{100 * float(called.value):.2f}" if is_number(called.value) else str(called)

    rows = [(f"N = {ranks}", *(cell(ranks, level) for level in levels)) for ranks in (2, 3, 4, 6, 8)]
    return Shown("your level_probability, in %\n" + table(("", *(f"C = {level}" for level in levels)), rows))


LEVEL_PROBABILITY = Exercise(
    key="contention.level_probability",
    number="7.2",
    title="meeting by chance",
    difficulty=2,
    minutes=10,
    name="level_probability",
    spec="""\
Take the ranks as out of step for good: at any moment each of the N ranks reads from one of its N - 1 peers, every peer
equally likely, and no rank cares for the others. You are one of them, and read from some source. The *contention
level* C is the number of ranks that read from it, you included. Write `level_probability(ranks, level)`, the
probability that C is `level`.""",
    stub='''\
def level_probability(ranks: int, level: int) -> float:
    """Pr[C = level] in a group of so many ranks."""''',
    hints=(
        "Who could read from your source beside you? Not you again, and a rank does not read from itself.",
        "So there are N - 2 others, and each of them has N - 1 peers, of which your source is one. They do it "
        "independently: that is a binomial distribution.",
        "C = 1 + X with X ~ Binomial(N - 2, 1 / (N - 1)). math.comb(n, x) * p**x * (1 - p)**(n - x).",
    ),
    reference=answers.level_probability,
    view=_show,
    example=lambda: (2, 1),
    properties=(
        agrees(
            "two ranks never meet",
            "level_probability",
            _right,
            [(2, 1)],
            why="You read from the other one, and nobody else is there.",
        ),
        agrees(
            "of three ranks one other may be there",
            "level_probability",
            _right,
            [(3, 1), (3, 2)],
            why="Only one rank is neither you nor your source, and it has two peers to choose from.",
        ),
        Property("some level it always is", _sum_to_one),
        agrees("the right distribution", "level_probability", _right, [(4, 1), (4, 2), (4, 3), (8, 4)], within=1e-6),
        Property("every cell of the paper's Table 2", as_the_paper),
    ),
)
