"""One clock for all ranks: times between two anchors are right within the error that is told."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dwdp_lab.execute.cuda.gpu.clock import Clock, Reading, anchor, clock, narrowest

delays = st.integers(0, 50_000)


class Device:
    """A device whose clock runs at its own rate from its own beginning, on a host whose calls take some time."""

    def __init__(self, rate: float, behind_ns: int, delays: list[int]) -> None:
        self.now_ns = 10**12
        self.rate = rate
        self.behind_ns = behind_ns
        self.delays = delays
        self.used = 0

    def pass_time(self) -> None:
        self.now_ns += self.delays[self.used % len(self.delays)]
        self.used += 1

    def host_clock(self) -> int:
        self.pass_time()
        return self.now_ns

    def event(self, timed: bool = False) -> dict[str, float]:
        assert timed
        return {}

    def record(self, event: dict[str, float]) -> None:
        self.pass_time()
        event["host"] = self.now_ns
        event["device"] = (self.now_ns - self.behind_ns) * self.rate
        self.pass_time()

    def wait(self, _: dict[str, float]) -> None:
        self.pass_time()

    def elapsed_us(self, first: dict[str, float], second: dict[str, float]) -> float:
        return (second["device"] - first["device"]) / 1e3


@given(
    st.floats(0.999, 1.001),
    st.integers(0, 10**12),
    st.lists(delays, min_size=1, max_size=40),
    st.integers(1, 10**8),
    st.integers(1, 10**8),
)
def test_a_time_between_anchors_is_off_by_no_more_than_the_error(
    rate: float, behind_ns: int, delays: list[int], before_ns: int, after_ns: int
) -> None:
    device: Any = Device(rate, behind_ns, delays)
    first = anchor(device, device, 5, device.host_clock)
    device.now_ns += before_ns
    between = device.event(timed=True)
    device.record(between)
    device.now_ns += after_ns
    last = anchor(device, device, 5, device.host_clock)
    found = clock(device, first, last)
    told_ns = found.host_ns(device.elapsed_us(first.event, between))
    assert abs(told_ns - between["host"]) <= 1e3 * found.error_us + 1.0  # floats of 1e12 ns


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), min_size=1))
def test_the_narrowest_reading_counts(pairs: list[tuple[int, int]]) -> None:
    event: Any = object()
    readings = [Reading(event, start, start + width) for start, width in pairs]
    assert narrowest(readings).error_us == min(width for _, width in pairs) / 2e3


def test_two_anchors_at_once_leave_device_time_as_it_is() -> None:
    assert Clock(5_000.0, 5_000.0, 0.0, 0.1).host_ns(3.0) == 8_000.0
