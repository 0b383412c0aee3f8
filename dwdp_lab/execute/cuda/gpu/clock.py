"""One clock for all ranks of a host: a device's own time, anchored to the monotonic clock before and after a run.

A timed event tells only the distance to other events of its device. An anchor is an event of which the host knows
when it happened: after the host began to record it, and before it saw that it had happened. The narrowest of several
tries counts. Between two anchors device time is stretched to fit, so that a clock that runs faster or slower does no
harm.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from dwdp_lab.execute.cuda.gpu.device import Device, Event, Stream

TRIES = 20


class Reading(NamedTuple):
    """An event, and the host's monotonic clock before it was recorded and after it was seen to have happened."""

    event: Event
    before_ns: int
    after_ns: int

    @property
    def host_ns(self) -> float:
        """When it happened, as near as the host can tell."""
        return (self.before_ns + self.after_ns) / 2

    @property
    def error_us(self) -> float:
        """How far from `host_ns` it may have happened."""
        return (self.after_ns - self.before_ns) / 2e3


def narrowest(readings: Sequence[Reading]) -> Reading:
    """The reading that leaves the least open."""
    return min(readings, key=lambda reading: reading.after_ns - reading.before_ns)


def anchor(
    device: Device, stream: Stream, tries: int = TRIES, now_ns: Callable[[], int] = time.monotonic_ns
) -> Reading:
    """An event on an idle stream that the host knows the time of. Blocks the host."""
    readings = []
    for _ in range(tries):
        event = device.event(timed=True)
        before = now_ns()
        stream.record(event)
        device.wait(event)
        readings.append(Reading(event, before, now_ns()))
    return narrowest(readings)


class Clock(NamedTuple):
    """Device time, in microseconds since the first anchor, to host time."""

    first_ns: float
    last_ns: float
    between_us: float
    """from the first anchor to the last on the device's clock"""
    error_us: float
    """a time between the anchors is off by no more than this, if the device's clock runs evenly"""

    def host_ns(self, device_us: float) -> float:
        """The monotonic clock at so many microseconds of device time after the first anchor."""
        if self.between_us <= 0:
            return self.first_ns + 1e3 * device_us
        return self.first_ns + device_us * (self.last_ns - self.first_ns) / self.between_us


def clock(device: Device, first: Reading, last: Reading) -> Clock:
    """The clock that two anchors define."""
    error = max(first.error_us, last.error_us)
    return Clock(first.host_ns, last.host_ns, device.elapsed_us(first.event, last.event), error)
