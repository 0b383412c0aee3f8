"""From runs on ranks to samples: each operation with what it had to do and how long it took. No torch.

Everything is measured by the machine that will run programs, on all ranks at once, so what it spends between kernels,
and what ranks take from each other, is in the samples. A sample is the median over runs of the mean within a run: a
step is a sum of operations, so it is their means that add up to it, and a disturbed run is left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from statistics import fmean, median
from typing import NamedTuple

from dwdp_lab.measure.calibration.samples import UNITS_OF, ComputeSample, ExchangeSample, PullSample, SlowedSample
from dwdp_lab.program.operation import COLLECTIVES, Kind, Op, Program, Work, awaited
from dwdp_lab.timeline.segments import activities, covered_us
from dwdp_lab.timeline.span import Span, Timeline

ALL_THE_WHILE = 0.95
"""An operation counts as beside a pull when one runs for at least this share of it."""

Place = tuple[int, Kind, int, int]
"""(rank, kind, step, layer)"""


class Ran(NamedTuple):
    """A run: what was to be done, and what happened. Programs without micro-batches."""

    programs: Sequence[Program]
    timeline: Timeline

    def spans(self) -> dict[Place, Span]:
        """The span of each operation; waiting for peers is none."""
        return {(span.rank, span.kind, span.step, span.layer): span for span in self.timeline.spans}  # type: ignore[misc]

    def ops(self) -> Iterator[tuple[Op, Span]]:
        """Each operation with its span."""
        spans = self.spans()
        for program in self.programs:
            for op in program.ops:
                yield op, spans[program.rank, op.kind, op.step, op.layer]


def compute_samples(runs: Sequence[Ran]) -> list[ComputeSample]:
    """One per kind of operation and amount of work."""
    times: dict[tuple[Kind, tuple[Work, ...]], list[float]] = defaultdict(list)
    for run in runs:
        of_run: dict[tuple[Kind, tuple[Work, ...]], list[float]] = defaultdict(list)
        for op, span in run.ops():
            if op.lane == "compute" and op.work:
                of_run[op.kind, op.work].append(span.duration_us)
        for key, found in of_run.items():
            times[key].append(fmean(found))
    return [ComputeSample(kind, kind, work, median(found)) for (kind, work), found in times.items()]


def pull_samples(runs: Sequence[Ran]) -> list[PullSample]:
    """One per size and number of copies of a pull."""
    times: dict[tuple[float, float], list[float]] = defaultdict(list)
    for run in runs:
        of_run: dict[tuple[float, float], list[float]] = defaultdict(list)
        for op, span in run.ops():
            if op.pull is not None and op.pull.nbytes:
                of_run[op.pull.nbytes, op.pull.copies].append(span.duration_us)
        for key, found in of_run.items():
            times[key].append(fmean(found))
    return [PullSample(nbytes, copies, median(found)) for (nbytes, copies), found in times.items()]


def exchange_samples(runs: Sequence[Ran]) -> list[ExchangeSample]:
    """One per kind and size of a collective: from when a rank could start it to when it went on after it.

    Batches are balanced, so what a rank waits for others in it is chance: no kernel takes the same time everywhere.
    That is why within a run the median counts here: one late rank would pass for the collective's own time.
    """
    times: dict[tuple[Kind, float], list[float]] = defaultdict(list)
    for run in runs:
        of_run: dict[tuple[Kind, float], list[float]] = defaultdict(list)
        for kind, nbytes, us in _exchanges(run):
            of_run[kind, nbytes].append(us)
        for key, found in of_run.items():
            times[key].append(median(found))
    return [ExchangeSample(kind, nbytes, median(found)) for (kind, nbytes), found in times.items()]


def _exchanges(run: Ran) -> Iterator[tuple[Kind, float, float]]:
    spans = run.spans()
    meetings: dict[tuple[Kind, int, int], list[tuple[Op, float, float]]] = defaultdict(list)
    for program in run.programs:
        ends = [spans[program.rank, op.kind, op.step, op.layer] for op in program.ops]
        for index, (ready, goes_on) in _moments(program, ends).items():
            op = program.ops[index]
            meetings[op.kind, op.step, op.layer].append((op, ready, goes_on))
    for (kind, _, _), arrivals in meetings.items():
        sent = [op.collective.sent_bytes for op, _, _ in arrivals if op.collective is not None]
        busiest = max(*(sum(one) for one in sent), *(sum(column) for column in zip(*sent, strict=True)))
        yield kind, busiest, fmean(goes_on - ready for _, ready, goes_on in arrivals)


def _moments(program: Program, spans: Sequence[Span]) -> dict[int, tuple[float, float]]:
    """For each collective of a rank: when what it waits for had ended, and when what waits for it began."""
    needs = awaited(program.ops)
    followers: dict[int, int] = {}
    for index, waited in enumerate(needs):
        for source in waited:
            followers.setdefault(source, index)
    return {
        index: (
            max((spans[source].end_us for source in needs[index]), default=spans[index].start_us),
            spans[followers[index]].start_us if index in followers else spans[index].end_us,
        )
        for index, op in enumerate(program.ops)
        if op.kind in COLLECTIVES
    }


def slowed_samples(beside: Ran, alone: Ran) -> list[SlowedSample]:
    """Operations that ran beside the rank's own pulls, over the same ones of a run without pulls."""
    usual = alone.spans()
    pulls = [activity.copy for activity in activities(beside.timeline)]
    found = []
    for place, span in beside.spans().items():
        if place[1] in UNITS_OF and place in usual and span.duration_us:
            covered = covered_us(span, pulls[span.rank]) >= ALL_THE_WHILE * span.duration_us
            if covered and usual[place].duration_us:
                found.append(SlowedSample(place[1], span.duration_us / usual[place].duration_us))
    return found
