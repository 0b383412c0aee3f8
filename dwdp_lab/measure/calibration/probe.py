"""Timing one piece of work on a rank's device."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Protocol

import torch
from dwdp_kernels.bench_timing import time_back_to_back, time_runs

from dwdp_lab.measure.transfers.transfers import MachineName

FEWEST, MOST = 7, 200
"""Timings that a median is taken over."""
QUEUED_US = 50.0
"""The host queues any call in less: of calls that take the device longer it gets ahead, and they leave no pause."""


class Probe(Protocol):
    """One device. Work is timed alone on it, again and again for about `least_us`, after it was warmed up."""

    device: torch.device

    def time_us(self, run: Callable[[], object], least_us: float, settle_us: float = 0.0) -> float:
        """The median time of one call, after the device has done nothing else for at least `settle_us`."""


class HostProbe:
    """The CPU, by its monotonic clock."""

    device = torch.device("cpu")

    def time_us(self, run: Callable[[], object], least_us: float, settle_us: float = 0.0) -> float:
        began, warm = time.perf_counter_ns(), 0
        while warm < 2 or (time.perf_counter_ns() - began) / 1e3 < settle_us:
            run()
            warm += 1
        times: list[float] = []
        while len(times) < FEWEST or (sum(times) < least_us and len(times) < MOST):
            began = time.perf_counter_ns()
            run()
            times.append((time.perf_counter_ns() - began) / 1e3)
        return median(times)


class CudaProbe:
    """A GPU, by events on its current stream; the host is ahead, so that its own time does not count.

    Calls that the host gets ahead of follow each other without a pause, first for `settle_us`, then for `least_us`: at
    the clock that the power limit leaves the device under this load. Shorter ones are no full load, and are timed one
    by one.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def time_us(self, run: Callable[[], object], least_us: float, settle_us: float = 0.0) -> float:
        def one_by_one(repeats: int) -> float:
            return time_runs({"run": lambda _: run()}, repeats)["run"].median_us

        once_us = one_by_one(3)
        calls = max(FEWEST, int(least_us / once_us))
        if once_us < QUEUED_US:
            return one_by_one(min(MOST, calls))
        return time_back_to_back(lambda _: run(), calls, settle=int(settle_us / once_us)).median_us


def open_probe(machine: MachineName, rank: int) -> Probe:
    """The probe of a rank's device; ranks share GPUs when there are fewer."""
    if machine == "cpu":
        return HostProbe()
    index = rank % torch.cuda.device_count()
    torch.cuda.set_device(index)
    return CudaProbe(torch.device("cuda", index))
