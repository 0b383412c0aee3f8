"""Transfers to be measured: which rank copies what, after a common start, and what it reports.

Every repeat of every case is one turn of all ranks: they prepare, agree on a start, copy, wait for each other, and
check every byte that arrived. The turns of all repeats come in random order, so that whatever drifts meanwhile (clocks,
temperature, other users of the machine) spreads over all cases alike.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal, NamedTuple

from dwdp_lab.program.pull_plan import Slice

MachineName = Literal["cpu", "cuda"]
Way = Literal["plain", "batched", "kernel", "source"]
"""One call per copy, one call for all, (within one GPU) a kernel of torch's, or (from another GPU) one call per copy
for the engines of the GPU that is copied from, where in all other ways the reader's are at work.

Between GPUs all are work for copy engines. Within one GPU the driver chooses, and takes its processors: on an H200
(driver 580) such copies waited for a kernel that filled them all, those asked to overlap with compute too.
"""

JOB = "dwdp_lab.measure.transfers.transfers_rank:measure_transfers"
"""The job that measures a `Plan` and returns a `Report`."""


ABOUT = "dwdp_lab.measure.transfers.transfers_open:about"
"""The job that asks every rank what it runs on: a `MachineName` to an `About`."""


class About(NamedTuple):
    """What one rank runs on. `place` tells devices apart: ranks with the same one share it. `driver`: None on CPU."""

    device: str
    place: str
    driver: str | None
    versions: dict[str, str]
    ways: tuple[Way, ...]


ON_CPU = About("CPU", "CPU", None, {}, ("plain",))
"""What a CPU rank runs on, but for versions."""


class Case(NamedTuple):
    """What each rank copies. `slices[r]` are rank r's copies in issue order, none for one that stands by.

    A slice's source is any rank's shared memory, its own included. With `marks` the time of each slice is noted (they
    then are issued one by one). On GPUs `ahead` has the host issue the copies before the start, as it does in a run;
    off, it begins to issue at the start, and then may itself be the limit. `rounds`: how many times in a row.
    With `random_phases` each rank starts at a moment of its own, drawn from the time that one round took when tried.
    """

    name: str
    slices: tuple[tuple[Slice, ...], ...]
    way: Way = "plain"
    marks: bool = False
    ahead: bool = True
    rounds: int = 1
    random_phases: bool = False

    @property
    def shared_bytes(self) -> int:
        """How much memory each rank must share, at least."""
        return max((piece.source_offset + piece.nbytes for copies in self.slices for piece in copies), default=0)

    @property
    def target_bytes(self) -> int:
        """Room for what any rank receives in one round."""
        return max(map(self.received_bytes, range(len(self.slices))), default=0)

    def received_bytes(self, rank: int) -> int:
        """Room for what one rank receives in one round."""
        return max((piece.slot_offset + piece.nbytes for piece in self.slices[rank]), default=0)

    def round_bytes(self, rank: int) -> int:
        """What one rank copies in one round."""
        return sum(piece.nbytes for piece in self.slices[rank])


class Plan(NamedTuple):
    """All that is to be measured. `evict_bytes`: how much each rank writes before a turn, so that no cache holds what
    is copied (0: nothing)."""

    machine: MachineName
    cases: tuple[Case, ...]
    repeats: int
    seed: int = 0
    evict_bytes: int = 0

    @property
    def shared_bytes(self) -> int:
        return max((case.shared_bytes for case in self.cases), default=0)

    @property
    def target_bytes(self) -> int:
        return max((case.target_bytes for case in self.cases), default=0)


class Turn(NamedTuple):
    """One repeat of one case (its number in the plan). Repeat -1 is the trial before all others."""

    case: int
    repeat: int


class Sample(NamedTuple):
    """What a rank that copied noted in one turn; times in microseconds since the common start.

    `issue_us` is how long the host took to hand the copies over, and `issued_us` when it had (on CPU ranks the host
    copies itself). `marks` are the ends of the slices of all rounds, if asked for. `page_faults` counts first touches
    of memory while copying (CPU ranks: any would be paid by the copy).
    """

    case: int
    repeat: int
    start_us: float
    end_us: float
    issue_us: float
    issued_us: float
    page_faults: int = 0
    marks: tuple[float, ...] = ()

    @property
    def took_us(self) -> float:
        return self.end_us - self.start_us


class Report(NamedTuple):
    """One rank's samples in the order they were taken, and what one must know about them.

    `clock_error_us`: how far its times may lie from those of other ranks, at most.
    """

    samples: tuple[Sample, ...]
    notes: tuple[str, ...]
    clock_error_us: float
    checked_bytes: int


def turns(plan: Plan) -> list[Turn]:
    """Every case once as a trial, in order, then all repeats of all cases in random order; the same on every rank."""
    trials = [Turn(case, -1) for case in range(len(plan.cases))]
    rest = [Turn(case, repeat) for case in range(len(plan.cases)) for repeat in range(plan.repeats)]
    random.Random(f"turns {plan.seed}").shuffle(rest)
    return trials + rest


def delay_us(plan: Plan, turn: Turn, rank: int, round_us: float) -> float:
    """When a rank starts in this turn, after the common start; `round_us` is how long one round took in the trial."""
    if not plan.cases[turn.case].random_phases or turn.repeat < 0:
        return 0.0
    return random.Random(f"phase {plan.seed} {turn.case} {turn.repeat} {rank}").uniform(0.0, round_us)


def samples_of(report: Report, case: int) -> list[Sample]:
    """A rank's samples of one case, by repeat, without the trial."""
    return sorted((one for one in report.samples if one.case == case and one.repeat >= 0), key=lambda one: one.repeat)


def by_repeat(reports: Sequence[Report], case: int) -> list[dict[int, Sample]]:
    """For every repeat of a case the samples of the ranks that copied."""
    found: dict[int, dict[int, Sample]] = {}
    for rank, report in enumerate(reports):
        for sample in samples_of(report, case):
            found.setdefault(sample.repeat, {})[rank] = sample
    return [found[repeat] for repeat in sorted(found)]
