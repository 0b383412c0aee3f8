"""Whether a run's times are the GPU's own, or those of the host that queued it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwdp_lab.execute.cuda.timed_run import is_paced


@pytest.mark.parametrize(
    ("queued_us", "run_us", "steps", "paced"),
    [
        (-5_000, 90_000, 3, False),  # all was queued behind the gate
        (20_000, 90_000, 3, False),  # the rest of a long step, well ahead of the GPU
        (1_390_000, 2_000_000, 60, False),  # the queues hold a third of the run
        (1_990_000, 2_000_000, 60, True),  # less than a step ahead of the GPU
        (85_000, 90_000, 1, True),
    ],
)
def test_a_host_that_is_ahead_has_queued_all_long_before_the_end(
    queued_us: float, run_us: float, steps: int, paced: bool
) -> None:
    assert is_paced(queued_us, run_us, steps) is paced


@given(st.floats(1, 1e7), st.integers(1, 200), st.floats(0, 1), st.floats(0, 1))
def test_the_later_the_host_is_done_the_more_it_paces(run_us: float, steps: int, one: float, other: float) -> None:
    sooner, later = sorted((one * run_us, other * run_us))
    assert is_paced(later, run_us, steps) >= is_paced(sooner, run_us, steps)
    assert not is_paced(0.0, run_us, steps)
