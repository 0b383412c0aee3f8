"""The partition of a rank's run, against sampling it instant by instant."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwdp_lab.timeline.metrics import metrics
from dwdp_lab.timeline.segments import (
    COPY_KINDS,
    STATES,
    TOKEN_KINDS,
    WAIT_KIND,
    Segment,
    activities,
    covered_us,
    segments,
)
from dwdp_lab.timeline.span import Span, Timeline

KINDS_BY_LANE = {
    "compute": ("attention", "experts", "merge"),
    "copy": ("pull",),
    "comm": ("dispatch", "combine", "gather_tokens", "reduce_tokens", "gather_weights", "wait_peers"),
}


def timeline_of(spans: list[Span], tokens: tuple[int, ...] = (100,), steps: int = 1) -> Timeline:
    return Timeline(tuple(spans), "dwdp", "sim", "simulated", tokens, steps)


@st.composite
def timelines(draw: st.DrawFn) -> Timeline:
    """One to three ranks whose lanes are busy at random; times are whole microseconds."""
    ranks = draw(st.integers(1, 3))
    spans = []
    for rank in range(ranks):
        for lane, kinds in KINDS_BY_LANE.items():
            now = 0
            for gap, length, kind in draw(
                st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6), st.sampled_from(kinds)), max_size=8)
            ):
                spans.append(Span(rank, lane, kind, 0, 0, float(now + gap), float(now + gap + length)))
                now += gap + length
    spans = draw(st.permutations(spans))
    return timeline_of(spans, tuple(draw(st.integers(0, 500)) for _ in range(ranks)), draw(st.integers(1, 3)))


def sampled(timeline: Timeline, rank: int) -> tuple[dict[str, int], int]:
    """The oracle: microseconds in each state, and of copies, by looking into each microsecond."""
    spans = [span for span in timeline.spans if span.rank == rank]
    leading = [span for span in spans if span.lane == "compute" or span.kind in TOKEN_KINDS]
    end = int(max((span.end_us for span in leading or spans), default=0))
    counts = dict.fromkeys(STATES, 0)
    copied = 0
    for microsecond in range(end):
        running = [span for span in spans if span.start_us < microsecond + 0.5 < span.end_us]
        kinds = {span.kind for span in running}
        copied += bool(kinds & COPY_KINDS)
        if any(span.lane == "compute" for span in running):
            counts["compute"] += 1
        elif kinds & TOKEN_KINDS:
            counts["communication"] += 1
        elif kinds & COPY_KINDS:
            counts["exposed_copy"] += 1
        elif WAIT_KIND in kinds:
            counts["wait_on_peers"] += 1
        else:
            counts["idle"] += 1
    return counts, copied


@given(timelines())
def test_segments_and_metrics_agree_with_sampling(timeline: Timeline) -> None:
    values = metrics(timeline)
    copied = exposed = 0
    for rank in range(timeline.ranks):
        expected, copied_here = sampled(timeline, rank)
        copied += copied_here
        exposed += expected["exposed_copy"]
        found = dict.fromkeys(STATES, 0.0)
        for segment in segments(timeline, rank):
            found[segment.state] += segment.end_us - segment.start_us
        assert found == expected
        for state in STATES:
            per_step = expected[state] / timeline.steps / 1e3
            assert getattr(values.by_rank[rank], f"{state}_ms") == pytest.approx(per_step)
    assert values.overlap_pct == pytest.approx(100 * (1 - exposed / copied) if copied else 100)


@given(timelines())
def test_segments_tile_the_run(timeline: Timeline) -> None:
    for rank in range(timeline.ranks):
        found = segments(timeline, rank)
        for before, after in itertools.pairwise(found):
            assert before.end_us == after.start_us
        assert all(segment.end_us > segment.start_us for segment in found)
        if found:
            assert found[0].start_us == 0
            total_us = found[-1].end_us
            assert metrics(timeline).by_rank[rank].step_ms == pytest.approx(total_us / 1e3 / timeline.steps)


def test_precedence_and_trailing_prefetch() -> None:
    spans = [
        Span(0, "copy", "pull", 0, 0, 0, 30),
        Span(0, "compute", "attention", 0, 0, 5, 10),
        Span(0, "compute", "experts", 0, 0, 30, 40),
        Span(0, "comm", "wait_peers", 0, 0, 40, 44),
        Span(0, "comm", "combine", 0, 0, 45, 50),
        Span(0, "copy", "pull", 1, 0, 42, 43),
        Span(0, "copy", "pull", 1, 0, 49, 90),
    ]
    assert segments(timeline_of(spans), 0) == (
        Segment(0, "exposed_copy", 0, 5),
        Segment(0, "compute", 5, 10),
        Segment(0, "exposed_copy", 10, 30),
        Segment(0, "compute", 30, 40),
        Segment(0, "wait_on_peers", 40, 42),
        Segment(0, "exposed_copy", 42, 43),
        Segment(0, "wait_on_peers", 43, 44),
        Segment(0, "idle", 44, 45),
        Segment(0, "communication", 45, 50),
    )


def test_a_rank_the_timeline_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"rank = 1: the timeline has ranks 0 to 0"):
        segments(timeline_of([]), 1)


@given(timelines())
def test_a_span_is_covered_by_copies_for_as_long_as_both_last(timeline: Timeline) -> None:
    copies = [activity.copy for activity in activities(timeline)]
    for span in timeline.spans:
        instants = range(int(span.start_us), int(span.end_us))  # of a microsecond each, as all times are whole
        sampled = sum(any(start <= now < end for start, end in copies[span.rank]) for now in instants)
        assert covered_us(span, copies[span.rank]) == sampled
