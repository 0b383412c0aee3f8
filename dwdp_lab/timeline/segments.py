"""What a rank is doing at each instant: a partition of its run that follows from the spans alone."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import islice
from operator import itemgetter
from typing import Literal, NamedTuple

from dwdp_lab.timeline.span import Span, Timeline

State = Literal["compute", "communication", "exposed_copy", "wait_on_peers", "idle"]
STATES: tuple[State, ...] = ("compute", "communication", "exposed_copy", "wait_on_peers", "idle")
"""In order of precedence: a rank that computes while it copies is in `compute`."""

TOKEN_KINDS = frozenset({"dispatch", "combine", "gather_tokens", "reduce_tokens"}) | frozenset(
    {"all_reduce_attention", "all_reduce_mlp", "send", "recv"}
)
COPY_KINDS = frozenset({"pull", "gather_weights"})
WAIT_KIND = "wait_peers"

Interval = tuple[float, float]


class Segment(NamedTuple):
    """A stretch of one rank's run that it spends in one state. Microseconds."""

    rank: int
    state: State
    start_us: float
    end_us: float


class RankActivity(NamedTuple):
    """One rank's run, [start, end] in microseconds, and the disjoint ordered intervals of each state in it.

    `copy` are the intervals in which anything is copied, hidden or exposed, within the run.
    """

    start_us: float
    end_us: float
    states: dict[State, list[Interval]]
    copy: list[Interval]


def segments(timeline: Timeline, rank: int) -> tuple[Segment, ...]:
    """The states of one rank in order; they cover its run without gap or overlap.

    The first of these that holds: `compute` (the compute lane is busy), `communication` (tokens are moving),
    `exposed_copy` (weights are moving), `wait_on_peers` (a collective or message waits for another rank), `idle`.
    The run begins at 0 and ends with the rank's last computation or exchange of tokens; a prefetch that
    still runs then is not part of it. Raises ValueError for a rank that the timeline does not have.
    """
    if not 0 <= rank < timeline.ranks:
        raise ValueError(f"rank = {rank}: the timeline has ranks 0 to {timeline.ranks - 1}")
    activity = activities(timeline)[rank]
    found = [
        Segment(rank, state, start, end) for state, intervals in activity.states.items() for start, end in intervals
    ]
    return tuple(sorted(found, key=lambda segment: segment.start_us))


def activities(timeline: Timeline) -> list[RankActivity]:
    """The activity of every rank, from one pass over the spans."""
    by_rank: list[list[list[Interval]]] = [[[], [], [], []] for _ in range(timeline.ranks)]
    places: dict[tuple[str, str], int] = {}
    for rank, lane, kind, _, _, start, end, _, _ in timeline.spans:
        place = places.get((lane, kind))
        if place is None:
            place = places[lane, kind] = STATES.index(busy_state(lane, kind))
        by_rank[rank][place].append((start, end))
    return [_activity(*intervals) for intervals in by_rank]


def covered_us(span: Span, intervals: Sequence[Interval]) -> float:
    """For how long the span lies in disjoint intervals, which are in order."""
    covered = 0.0
    for start, end in islice(intervals, bisect_right(intervals, span.start_us, key=itemgetter(1)), None):
        if start >= span.end_us:
            break
        covered += min(end, span.end_us) - max(start, span.start_us)
    return covered


def busy_state(lane: str, kind: str) -> State:
    """The state a span puts its rank in when nothing of higher precedence runs."""
    if kind == WAIT_KIND:
        return "wait_on_peers"
    if kind in TOKEN_KINDS:
        return "communication"
    if kind in COPY_KINDS or lane == "copy":
        return "exposed_copy"
    return "compute"


def _activity(
    compute: list[Interval], exchange: list[Interval], copy: list[Interval], wait: list[Interval]
) -> RankActivity:
    run = compute + exchange or copy + wait
    everything = compute + exchange + copy + wait
    if not everything:
        return RankActivity(0.0, 0.0, {state: [] for state in STATES}, [])
    start = min(0.0, min(everything)[0])
    end = max(last for _, last in run)
    gaps: list[Interval] = [(start, end)] if end > start else []
    states: dict[State, list[Interval]] = {}
    copied, _ = _split(gaps, _union(copy))
    for state, busy in zip(STATES, (compute, exchange, copy, wait), strict=False):
        states[state], gaps = _split(gaps, _union(busy))
    states["idle"] = gaps
    return RankActivity(start, end, states, copied)


def _union(intervals: Iterable[Interval]) -> list[Interval]:
    """Disjoint, ordered intervals that cover the same instants; those of no length vanish."""
    merged: list[Interval] = []
    first, last = 0.0, 0.0
    for start, end in sorted(intervals):
        if start > last or last == first:
            if last > first:
                merged.append((first, last))
            first, last = start, end
        elif end > last:
            last = end
    if last > first:
        merged.append((first, last))
    return merged


def _split(gaps: list[Interval], busy: list[Interval]) -> tuple[list[Interval], list[Interval]]:
    """The parts of the gaps that are busy, and the parts that are not. All lists are disjoint and ordered."""
    taken: list[Interval] = []
    left: list[Interval] = []
    place, count = 0, len(busy)
    for start, end in gaps:
        while place < count and busy[place][1] <= start:
            place += 1
        while place < count and busy[place][0] < end:
            first, last = busy[place]
            if first > start:
                left.append((start, first))
            else:
                first = start
            if last >= end:  # it may reach into the next gap, so it stays
                taken.append((first, end))
                start = end
                break
            taken.append((first, last))
            start = last
            place += 1
        if start < end:
            left.append((start, end))
    return taken, left
