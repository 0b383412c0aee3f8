"""Timing one piece of work on a rank's device."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Protocol

import torch
from dwdp_kernels.bench_timing import time_runs

from dwdp_lab.measure.transfers.transfers import MachineName

FEWEST, MOST = 7, 200
"""Timings that a median is taken over."""


class Probe(Protocol):
    """One device. Work is timed alone on it, again and again for about `least_us`, after it was warmed up."""

    device: torch.device

    def time_us(self, run: Callable[[], object], least_us: float) -> float:
        """The median time of one call."""


class HostProbe:
    """The CPU, by its monotonic clock."""

    device = torch.device("cpu")

    def time_us(self, run: Callable[[], object], least_us: float) -> float:
        for _ in range(2):
            run()
        times: list[float] = []
        while len(times) < FEWEST or (sum(times) < least_us and len(times) < MOST):
            began = time.perf_counter_ns()
            run()
            times.append((time.perf_counter_ns() - began) / 1e3)
        return median(times)


class CudaProbe:
    """A GPU, by events on its current stream; the host is ahead, so that its own time does not count."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def time_us(self, run: Callable[[], object], least_us: float) -> float:
        def timed(repeats: int) -> float:
            return time_runs({"run": lambda _: run()}, repeats)["run"].median_us

        return timed(max(FEWEST, min(MOST, int(least_us / timed(3)))))


def open_probe(machine: MachineName, rank: int) -> Probe:
    """The probe of a rank's device; ranks share GPUs when there are fewer."""
    if machine == "cpu":
        return HostProbe()
    index = rank % torch.cuda.device_count()
    torch.cuda.set_device(index)
    return CudaProbe(torch.device("cuda", index))
