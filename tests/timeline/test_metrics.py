"""Step time, overlap and tokens/s of runs small enough to work out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwdp_lab.timeline.metrics import metrics, step_times_ms
from dwdp_lab.timeline.span import Span, Timeline

PARTS = ("compute_ms", "communication_ms", "exposed_copy_ms", "wait_on_peers_ms", "idle_ms")


def two_ranks(steps: int = 1) -> Timeline:
    """Rank 0 waits for rank 1; both then exchange tokens. Rank 1 has a copy of which 1 ms is exposed."""
    spans = (
        Span(0, "compute", "attention", 0, 0, 0, 2000),
        Span(0, "comm", "wait_peers", 0, 0, 2000, 6000),
        Span(0, "comm", "dispatch", 0, 0, 6000, 8000),
        Span(1, "copy", "pull", 0, 0, 0, 4000, 4e9),
        Span(1, "compute", "attention", 0, 0, 1000, 6000),
        Span(1, "comm", "dispatch", 0, 0, 6000, 8000),
    )
    return Timeline(spans, "dep", "sim", "simulated", (100, 300), steps)


def test_parts_of_each_rank_and_their_means() -> None:
    values = metrics(two_ranks())
    light, heavy = values.by_rank
    assert (light.rank, heavy.rank) == (0, 1)
    assert (light.step_ms, light.compute_ms, light.wait_on_peers_ms, light.communication_ms) == (8, 2, 4, 2)
    assert (heavy.step_ms, heavy.compute_ms, heavy.exposed_copy_ms, heavy.communication_ms) == (8, 5, 1, 2)
    assert (values.step_ms, values.compute_ms, values.wait_on_peers_ms) == (8, 3.5, 2)
    assert values.wait_pct == 25
    assert light.overlap_pct == 100
    assert heavy.overlap_pct == values.overlap_pct == 75
    assert light.tokens_per_s == pytest.approx(12_500)
    assert values.tokens_per_s == pytest.approx(25_000)


def test_times_are_per_step_and_tokens_per_second_are_not() -> None:
    once, twice = metrics(two_ranks(1)), metrics(two_ranks(2))
    assert twice.step_ms == once.step_ms / 2
    assert twice.tokens_per_s == once.tokens_per_s


def test_a_rank_that_is_done_early_does_not_lose_tokens_per_second() -> None:
    spans = (
        Span(0, "compute", "experts", 0, 0, 0, 1000),
        Span(1, "compute", "experts", 0, 0, 0, 3000),
    )
    values = metrics(Timeline(spans, "dwdp", "sim", "simulated", (100, 300), 1))
    assert values.step_ms == 2
    assert values.tokens_per_s == pytest.approx(100_000)


def test_each_step_lasts_from_the_end_of_the_one_before() -> None:
    spans = (
        Span(0, "compute", "experts", 0, 0, 500, 1000),
        Span(0, "copy", "pull", 0, 1, 900, 1400, 1e6),  # for the next step: not the end of this one
        Span(0, "compute", "experts", 1, 0, 1400, 4000),
        Span(1, "compute", "experts", 0, 0, 0, 2000),
        Span(1, "comm", "send", 1, 0, 2000, 2600),
    )
    assert step_times_ms(Timeline(spans, "dwdp", "sim", "simulated", (1, 1), 2)) == pytest.approx([1.5, 1.8])


def test_a_step_that_a_rank_sits_out_or_has_done_before_takes_no_time_there() -> None:
    spans = (
        Span(0, "compute", "experts", 0, 0, 0, 3000),
        Span(0, "compute", "experts", 1, 0, 0, 2000),
        Span(0, "compute", "experts", 3, 0, 3000, 5000),
    )
    assert step_times_ms(Timeline(spans, "pipeline", "sim", "simulated", (1,), 4)) == pytest.approx([3, 0, 0, 2])


def test_a_run_without_spans_has_no_time_and_no_rate() -> None:
    values = metrics(Timeline((), "dwdp", "sim", "simulated", (0, 0), 1))
    assert values.step_ms == values.tokens_per_s == values.wait_pct == 0
    assert values.overlap_pct == 100
    assert len(values.by_rank) == 2


def test_a_run_of_no_ranks_has_no_time() -> None:
    values = metrics(Timeline((), "dwdp", "sim", "simulated", (), 1))
    assert (values.step_ms, values.tokens_per_s, values.by_rank) == (0, 0, ())


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2),
            st.sampled_from([("compute", "experts"), ("copy", "pull"), ("comm", "combine"), ("comm", "wait_peers")]),
            st.floats(-10, 1e6),
            st.floats(0, 1e5),
        ),
        max_size=40,
    )
)
def test_parts_are_not_negative_and_add_up(busy: list[tuple[int, tuple[str, str], float, float]]) -> None:
    spans = tuple(Span(rank, *place, 0, 0, start, start + length) for rank, place, start, length in busy)
    values = metrics(Timeline(spans, "dwdp", "cpu", "measured", (1, 2, 3), 1))
    for some in (values, *values.by_rank):
        assert all(getattr(some, part) >= 0 for part in PARTS)
        assert sum(getattr(some, part) for part in PARTS) == pytest.approx(some.step_ms, abs=1e-9)
        assert 0 <= some.overlap_pct <= 100
    for name in ("step_ms", *PARTS):
        mean = sum(getattr(rank, name) for rank in values.by_rank) / 3
        assert getattr(values, name) == pytest.approx(mean, abs=1e-9)


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 3), st.floats(0, 1e6), st.floats(0, 1e5)), min_size=1, max_size=40
    )
)
def test_steps_add_up_to_the_run(busy: list[tuple[int, int, float, float]]) -> None:
    spans = tuple(
        Span(rank, "compute", "experts", step, 0, start, start + length) for rank, step, start, length in busy
    )
    timeline = Timeline(spans, "pipeline", "cpu", "measured", (1, 2, 3), 4)
    lengths = step_times_ms(timeline)
    assert min(lengths) >= 0
    assert sum(lengths) == pytest.approx(4 * metrics(timeline).step_ms, abs=1e-9)
