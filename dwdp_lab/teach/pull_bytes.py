"""The exercise on pull plans: which bytes go where, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from dwdp_lab.program.placement import Placement
from dwdp_lab.program.placement import placement as placement_of
from dwdp_lab.program.pull_plan import parameter_bytes, pull_plan
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.teach import moving_weights_answers as answers
from dwdp_lab.teach.attempt import attempt, shown
from dwdp_lab.teach.exercise import Exercise, Property, Target
from dwdp_lab.teach.layout_picture import layout_picture
from dwdp_lab.teach.shown import Shown, table
from dwdp_lab.teach.stamped import Copy, Sizes, wrong_byte

ONE, TWO = (("w13", 2),), (("w13", 2), ("w2", 1))
SLICE = 2 << 20


class Case(NamedTuple):
    """The arguments of `pull_slices`."""

    where: Placement
    rank: int
    sizes: Sizes
    slice_bytes: int

    def __str__(self) -> str:
        where = self.where
        listed = ", ".join(f"{name} of {size} B" for name, size in self.sizes)
        return (
            f"E = {where.experts}, N = {where.ranks}, L = {where.local_experts}, rank {self.rank}, experts of "
            f"{listed}, slices of {self.slice_bytes} B"
        )

    @property
    def arguments(self) -> tuple[Any, ...]:
        """As the learner's function takes them."""
        return self.where, self.rank, list(self.sizes), self.slice_bytes


def _cases(placements: Sequence[tuple[int, int, int]], sizes: Sizes, slice_bytes: int = 100) -> list[Case]:
    """Every rank of each (experts, ranks, local experts)."""
    return [Case(Placement(*each), rank, sizes, slice_bytes) for each in placements for rank in range(each[1])]


def _as_copies(value: Any) -> list[Copy] | None:
    try:
        copies = [tuple(int(number) for number in copy) for copy in value]
    except (TypeError, ValueError):
        return None
    return [(copy[0], copy[1], copy[2], copy[3]) for copy in copies] if all(len(copy) == 4 for copy in copies) else None


def _copies(answer: Any, case: Case) -> tuple[list[Copy] | None, str]:
    """The learner's copies, or what is wrong with them as such."""
    called = attempt(answer, case.arguments)
    if called.error:
        return None, f"{case}: {called.error}"
    copies = _as_copies(called.value)
    if copies is None:
        return None, f"{case}: {shown(called.value)}; a list of (peer, source, target, bytes) is wanted."
    return copies, ""


def _exact(name: str, cases: Sequence[Case]) -> Property:
    def violation(answer: Any) -> str | None:
        for case in cases:
            copies, words = _copies(answer, case)
            if copies is None:
                return words
            if wrong := wrong_byte(case.where, case.rank, case.sizes, copies):
                return f"{case}: {wrong}"
        return None

    return Property(name, violation)


SLICED = [
    *_cases([(2, 2, 1)], ONE, slice_bytes=1),
    *_cases([(4, 2, 2), (5, 3, 2)], TWO, slice_bytes=3),
]


def _no_longer(answer: Any) -> str | None:
    for case in SLICED:
        copies, words = _copies(answer, case)
        if copies is None:
            return words
        long = next((copy for copy in copies if copy[3] > case.slice_bytes), None)
        if long is not None:
            return f"{case}: {long} is {long[3]} bytes long."
    return None


def qwen(ranks: int = 4) -> Scenario:
    """Qwen3-30B-A3B, its pulls in slices of 2 MiB."""
    return Scenario.create(
        model="qwen3-30b-a3b", group={"ranks": ranks}, strategy={"slice_bytes": SLICE, "weight_view": "split"}
    )


def _count(answer: Any) -> float:
    scenario = qwen()
    made = answer(placement_of(scenario), 1, list(parameter_bytes(scenario.model)), SLICE)
    return float(len(list(made)))


def _show(answer: Any) -> Shown:
    case = Case(Placement(6, 3, 2), 1, TWO, 3)
    copies, words = _copies(answer, case)
    if copies is None:
        return Shown(words)
    rows = [
        (f"{number}", f"rank {peer}", f"{source} to {source + nbytes}", f"{target} to {target + nbytes}")
        for number, (peer, source, target, nbytes) in enumerate(copies)
    ]
    wrong = wrong_byte(case.where, case.rank, case.sizes, copies)
    listed = table(("copy", "from", "bytes of its shard", "bytes of the slot"), rows)
    words = f"{case}\n{listed}\n{wrong or 'Every byte of the slot is what it should be.'}"
    return Shown(words, layout_picture(case.where, case.rank, case.sizes, copies))


PULL_SLICES = Exercise(
    key="moving_weights.pull_slices",
    number="4.4",
    title="which bytes?",
    difficulty=3,
    minutes=20,
    name="pull_slices",
    spec="""\
Write `pull_slices(where, rank, sizes, slice_bytes)`: the copies of one pull, each as `(peer, source, target,
nbytes)`, with the offset in the peer's shard, the offset in this rank's slot, and a length of at most `slice_bytes`.

`sizes` lists an expert's parameters with their bytes, such as `[("w13", 6291456), ("w2", 3145728)]`. A *shard* (what
a rank keeps of a layer) is parameter after parameter: first w13 of all its experts in order, then w2 of all. The
*slot* has the same form with the E - L experts that the rank lacks, in ascending order. `where.local(r)` is the range
of experts that rank r keeps; `where.pulled(rank)` lists `(peer, experts)`, a range from each peer (your `shares`);
`where.experts` is E and `where.local_experts` is L.

*Correct* is what brings every byte to its place, in any order. It is *good* with as few copies as the lab's own plan
for Qwen3-30B-A3B on 4 ranks with slices of 2 MiB.""",
    stub='''\
def pull_slices(
    where: Placement, rank: int, sizes: list[tuple[str, int]], slice_bytes: int
) -> list[tuple[int, int, int, int]]:
    """(peer, offset in its shard, offset in the slot, bytes) of each copy."""''',
    hints=(
        "Keep two running offsets: where the parameter at hand begins in a shard (it grows by L sizes after each "
        "parameter) and in the slot (by E - L sizes).",
        "In the peer's shard expert e stands at e - where.local(peer).start. In the slot it stands at e if it comes "
        "before your own window, else at e - L: your own experts leave no gap there.",
        "The experts of one peer are consecutive, in its shard and in the slot: one piece of len(experts) * size "
        "bytes for each parameter. Cut that into slices, not each expert by itself.",
    ),
    reference=answers.pull_slices,
    view=_show,
    example=lambda: Case(Placement(2, 2, 1), 0, ONE, 100).arguments,
    properties=(
        _exact("one expert from one peer", _cases([(2, 2, 1)], ONE)),
        _exact("parameters lie one after another", _cases([(2, 2, 1), (4, 2, 2)], TWO)),
        _exact("every peer's experts have their place in the slot", _cases([(3, 3, 1), (6, 3, 2)], TWO)),
        _exact("windows may overlap", _cases([(3, 2, 2), (5, 3, 2), (6, 3, 3), (8, 3, 3), (8, 4, 5)], TWO)),
        _exact("slices bring every byte too", SLICED),
        Property("no copy is longer than a slice", _no_longer),
    ),
    targets=(
        Target(
            "copies of one pull of Qwen3-30B-A3B, 4 ranks",
            _count,
            lambda: float(len(pull_plan(qwen(), 1).slices)),
            "copies",
            digits=0,
        ),
    ),
)
