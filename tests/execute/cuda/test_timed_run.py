"""Whether a run's times are the GPU's own, or those of the host that queued it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwdp_lab.execute.cuda.timed_run import is_paced


@pytest.mark.parametrize(
    ("queued_us", "run_us", "ops", "paced"),
    [
        (-5_000, 90_000, 72, False),  # all was queued behind the gate
        (20_000, 90_000, 72, False),  # well ahead of the GPU
        (1_390_000, 2_000_000, 1_440, False),  # the queues hold a third of the run
        (1_960_000, 2_000_000, 2_880, False),  # 20 steps of 48 layers: the queues hold less than one of them
        (1_990_000, 2_000_000, 2_880, True),  # a dozen operations ahead of the GPU
        (85_000, 90_000, 24, True),
    ],
)
def test_a_host_that_is_ahead_has_queued_all_long_before_the_end(
    queued_us: float, run_us: float, ops: int, paced: bool
) -> None:
    assert is_paced(queued_us, run_us, ops) is paced


@given(st.floats(1, 1e7), st.integers(0, 5000), st.floats(0, 1), st.floats(0, 1))
def test_the_later_the_host_is_done_the_more_it_paces(run_us: float, ops: int, one: float, other: float) -> None:
    sooner, later = sorted((one * run_us, other * run_us))
    assert is_paced(later, run_us, ops) >= is_paced(sooner, run_us, ops)
    assert not is_paced(0.0, run_us, ops)
