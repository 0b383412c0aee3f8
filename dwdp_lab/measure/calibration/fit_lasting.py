"""From two runs under full load, a second or two long, to what is slower in steps that last. No torch.

Both begin on cool GPUs, whose clocks fall to what their power limit allows within the first tenth of a second or so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from dwdp_lab.program.operation import Kind
from dwdp_lab.timeline.segments import activities, covered_us
from dwdp_lab.timeline.span import Timeline

COMPUTED: tuple[Kind, ...] = ("attention", "route", "experts")
"""Kinds of operations that are looked at."""

COOL_US = 40_000.0
"""Steps that end so soon after full load began find the GPU cool."""

SLOWER = 1.01
"""A rank whose steps take no more times as long than this in the end has not become slower: repeats differ as much."""


class LastingFit(NamedTuple):
    """What was found. `compute`, `copies` and `after_ms` are those of a profile (simulate/reached.py).

    `step_ms` has every step of both runs, by strategy, mean over ranks; `run_ms` is how long the replicated run was.
    """

    compute: dict[Kind, float]
    copies: float | None
    after_ms: float
    run_ms: float
    step_ms: dict[str, tuple[float, ...]]


class _Step(NamedTuple):
    """A rank's computation of one step: `us` by kind, of all layers; `beside_us` of it a pull ran."""

    start_us: float
    end_us: float
    us: dict[str, float]
    beside_us: float

    @property
    def took_us(self) -> float:
        return self.end_us - self.start_us


class _Phases(NamedTuple):
    """A rank's steps, each with the same work: all of them, those on a cool GPU, and those in the second half of a time
    that is the same for all ranks and runs."""

    steps: list[_Step]
    cool: list[_Step]
    lasting: list[_Step]

    @property
    def start_us(self) -> float:
        return self.steps[0].start_us

    @property
    def run_us(self) -> float:
        return self.steps[-1].end_us - self.start_us

    def longer(self, kind: Kind) -> float:
        """How many times as long operations of a kind take in steps that last."""
        cool, lasting = (fmean(step.us[kind] for step in some) for some in (self.cool, self.lasting))
        return lasting / cool

    def slower_after_us(self) -> float | None:
        """When steps begin to be nearer to those that last than to the cool ones; None when they take no longer."""
        cool, lasting = (fmean(step.took_us for step in some) for some in (self.cool, self.lasting))
        if lasting <= SLOWER * cool:
            return None
        later = self.steps[len(self.cool) :]
        starts = (step.start_us - self.start_us for step in later if step.took_us > (cool + lasting) / 2)
        return next(starts, None)


def fit_lasting(replicated: Timeline, dwdp: Timeline) -> LastingFit:
    """What is slower in steps that last, from a run of each strategy; all steps of both have the same batches.

    Cool is what a kind of operation takes in the steps that end within the first 40 ms (at least the first step),
    lasting what it takes in the second half of the shortest rank's run: of the same time for all, as clocks fall and
    rise by time. Times of operations, not of steps: a step of DWDP also has the part of its first pull that nothing
    hides. A rank becomes slower with the first step, after the cool ones, that takes longer than the mean of a cool and
    a lasting step; where no rank does, `after_ms` is the length of the run, and the factors, close to 1, are as
    measured.

    What pulls take is what operations take longer under DWDP than replicated, by the time that pulls ran beside them:
    so in cool steps and in lasting ones, and `copies` is the ratio. (How many times as long DWDP's operations take in
    the end is not enough: longer steps have no more pulls, so these slow a smaller share of them.)

    Means over ranks; factors are at least 1. Raises ValueError for a run in which a rank computed nothing.
    """
    runs = _steps(replicated), _steps(dwdp)
    until_us = min(steps[-1].end_us - steps[0].start_us for of_run in runs for steps in of_run)
    alone, beside = ([_phases(steps, until_us) for steps in of_run] for of_run in runs)
    kinds = [kind for kind in COMPUTED if all(phases.cool[0].us.get(kind) for phases in alone)]
    slower_after = [after for phases in alone if (after := phases.slower_after_us()) is not None]
    run_us = fmean(phases.run_us for phases in alone)
    copies = [
        cool / lasting
        for usual, slowed in zip(alone, beside, strict=True)
        if (cool := _speed_beside(slowed.cool, usual.cool))
        and (lasting := _speed_beside(slowed.lasting, usual.lasting))
    ]
    return LastingFit(
        {kind: max(1.0, fmean(phases.longer(kind) for phases in alone)) for kind in kinds},
        max(1.0, fmean(copies)) if copies else None,
        (fmean(slower_after) if slower_after else run_us) / 1e3,
        run_us / 1e3,
        {"replicated": _step_ms(alone), "dwdp": _step_ms(beside)},
    )


def _speed_beside(slowed: Sequence[_Step], usual: Sequence[_Step]) -> float | None:
    """The share of their speed that operations keep while a pull runs, from steps with pulls and the same without.

    None where no pull ran, or where more was lost than pulls can have taken: something else disturbed the ranks.
    """
    beside_us = fmean(step.beside_us for step in slowed)
    lost_us = fmean(sum(step.us.values()) for step in slowed) - fmean(sum(step.us.values()) for step in usual)
    return 1.0 - lost_us / beside_us if beside_us > max(0.0, lost_us) else None


def _phases(steps: list[_Step], until_us: float) -> _Phases:
    """A rank's steps by what they tell; at least one of each."""
    start_us = steps[0].start_us
    cool = [step for step in steps if step.end_us - start_us <= COOL_US]
    lasting = [
        step for step in steps if until_us / 2 <= step.start_us - start_us and step.end_us - start_us <= until_us
    ]
    return _Phases(steps, cool or steps[:1], lasting or steps[len(steps) // 2 :])


def _steps(run: Timeline) -> list[list[_Step]]:
    """Every rank's steps."""
    starts: dict[tuple[int, int], float] = {}
    ends: dict[tuple[int, int], float] = {}
    took: dict[tuple[int, int], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    beside: dict[tuple[int, int], float] = defaultdict(float)
    pulls = [activity.copy for activity in activities(run)]
    for span in run.spans:
        if span.kind in COMPUTED:
            key = span.rank, span.step
            starts[key] = min(starts.get(key, span.start_us), span.start_us)
            ends[key] = max(ends.get(key, span.end_us), span.end_us)
            took[key][span.kind] += span.duration_us
            beside[key] += covered_us(span, pulls[span.rank])
    found = []
    for rank in range(run.ranks):
        steps = [_Step(starts[key], ends[key], took[key], beside[key]) for key in sorted(starts) if key[0] == rank]
        if not steps:
            raise ValueError(f"rank {rank} of the {run.strategy} run computed nothing")
        found.append(steps)
    return found


def _step_ms(ranks: Sequence[_Phases]) -> tuple[float, ...]:
    of_steps = zip(*(phases.steps for phases in ranks), strict=True)
    return tuple(fmean(step.took_us for step in steps) / 1e3 for steps in of_steps)
