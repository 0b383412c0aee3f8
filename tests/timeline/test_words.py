"""Numbers and results in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwdp_lab.timeline.metrics import StepTime
from dwdp_lab.timeline.words import figures, size, summary


@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "0"), (0.012345, "0.0123"), (0.9999, "1.00"), (41.26, "41.3"), (999.6, "1,000"), (-2.5, "-2.50")],
)
def test_three_digits(value: float, said: str) -> None:
    assert figures(value) == said


@pytest.mark.parametrize(
    ("nbytes", "said"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (-1024, "-1 KiB"),
        (1.5 * 2**20, "1.5 MiB"),
        (3 * 2**30, "3 GiB"),
        (2**40, "1 TiB"),
        (2000 * 2**40, "2000 TiB"),  # there is no larger one
    ],
)
def test_sizes(nbytes: float, said: str) -> None:
    assert size(nbytes) == said


@given(st.integers(1, 1 << 49))
def test_a_size_is_at_least_one_of_its_unit_and_less_than_one_of_the_next(nbytes: int) -> None:
    number = float(size(nbytes).split()[0])
    assert 1 <= number <= 1024


def test_parts_of_no_length_are_left_out() -> None:
    step = StepTime(
        step_ms=10.0,
        compute_ms=7.5,
        communication_ms=0.0,
        exposed_copy_ms=0.006,
        wait_on_peers_ms=2.49,
        idle_ms=0.004,
        overlap_pct=99.0,
        tokens_per_s=12345.6,
    )
    said = "step 10.0 ms: compute 75.0 %, waiting on peers 24.9 %, exposed copy 0.1 %; 12,346 tokens/s per rank"
    assert summary(step) == said
