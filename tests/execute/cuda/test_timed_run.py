"""Whether a run's times are the GPU's own, or those of the host that queued it."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwdp_lab.execute.cuda.gpu.clock import Clock
from dwdp_lab.execute.cuda.gpu.device import Device
from dwdp_lab.execute.cuda.queue_program import Queued, Stamps
from dwdp_lab.execute.cuda.timed_run import PACED, TimedRun, is_paced


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


class EventsAreTimes:
    """A device whose events are when they happened, in microseconds."""

    def elapsed_us(self, first: Any, second: Any) -> float:
        return float(second - first)


DEVICE = cast(Device, EventsAreTimes())


def timed(queued_us: float) -> TimedRun:
    """A run of one operation, at 200 to 900 us; its lanes end at 900, 1,000 and 400 us. The gate opened 50 us after the
    device's first event, which happened at 7,000 us of its own time and at 1 ms of the host's."""
    stamps = Queued((Stamps(cast(Any, 7_250), cast(Any, 7_950)),), ())
    finish: list[Any] = [7_950, 8_050, 7_450]
    start_ns = 1_050_000
    return TimedRun(
        stamps, Clock(1e6, 3e6, 2e3, 0.0), cast(Any, 7_000), finish, start_ns, int(start_ns + 1e3 * queued_us), ()
    )


def test_a_run_counts_from_the_gate_and_takes_until_its_last_lane_has_ended() -> None:
    run = timed(-100.0)
    assert list(run.times_us(DEVICE)) == [(pytest.approx(200.0), pytest.approx(900.0))]
    assert run.run_us(DEVICE) == pytest.approx(1_000.0)
    assert run.at_us(DEVICE, cast(Any, 7_049)) == 0.0, "just before the gate is at it"


@pytest.mark.parametrize(
    ("queued_us", "ops", "notes"),
    [(-100.0, 1, ()), (899.5, 1, ()), (920.0, 1, (PACED,)), (920.0, 5_000, ()), (995.0, 5_000, (PACED,))],
)
def test_a_run_says_when_the_host_set_its_pace(queued_us: float, ops: int, notes: tuple[str, ...]) -> None:
    assert timed(queued_us).notes(DEVICE, ops) == notes


@pytest.mark.parametrize(
    ("left_us", "ops", "paced"),
    [(10_100, 0, False), (9_900, 0, True), (9_900, 500, True), (5_100, 1_000, False), (4_900, 1_000, True)],
)
def test_less_than_a_tenth_of_the_run_or_than_fifty_operations_is_left_to_a_host_that_paces(
    left_us: float, ops: int, paced: bool
) -> None:
    assert is_paced(100_000 - left_us, 100_000, ops) is paced
