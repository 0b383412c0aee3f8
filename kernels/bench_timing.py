"""Timing on the GPU: medians of interleaved runs, and the two ceilings that limits follow from."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from dwdp_kernels.e4m3 import E4M3
from torch import Tensor

Run = Callable[[int], object]
"""Does the work once, on the i-th set of inputs."""

WARM_UP = 3
HEAD_START_CYCLES = 2_000_000
"""For how long the device waits before each run, so that what is timed has been issued by then: about 1 ms."""
COPY_BYTES = 2 << 30
MATMUL = 8192


class Timing(NamedTuple):
    """Microseconds of one run."""

    median_us: float
    low_us: float
    """the fastest tenth ends here"""
    high_us: float
    """the slowest tenth starts here"""


class Ceilings(NamedTuple):
    """What the device reaches at best, measured just before."""

    tflops: float
    """a large square matrix product of random data"""
    gbps: float
    """a large copy on the device, bytes read plus bytes written"""

    def limit_us(self, flops: float, moved_bytes: float) -> float:
        """The time below which nothing runs that computes `flops` and moves `moved_bytes`."""
        return max(flops / (self.tflops * 1e6), moved_bytes / (self.gbps * 1e3))


def time_runs(runs: Mapping[str, Run], repeats: int, sets: int = 1) -> dict[str, Timing]:
    """Time several ways of doing the same, taking turns, so that clocks and heat favour none.

    Each run gets another of `sets` inputs than the one before, so that L2 holds nothing of use.
    """
    for run in runs.values():
        for i in range(WARM_UP):
            run(i % sets)
    torch.cuda.synchronize()
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats):
        for name, run in runs.items():
            taken[name].append(_time_once(run, repeat % sets))
    return {name: _timing(times) for name, times in taken.items()}


def _time_once(run: Run, i: int) -> float:
    cuda: Any = torch.cuda  # not fully typed
    begin, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
    cuda._sleep(HEAD_START_CYCLES)
    begin.record()
    run(i)
    end.record()
    end.synchronize()
    return 1e3 * float(begin.elapsed_time(end))


def time_back_to_back(run: Run, repeats: int, settle: int) -> Timing:
    """Time runs that follow each other without a pause, after `settle` more of them.

    A device under full load lowers its clock within some tens of milliseconds, and raises it again while it waits:
    between runs of `time_runs` it does. Here the host must be ahead, so a run has to take the device longer than it
    takes the host to queue it. Each run gets the same inputs.
    """
    cuda: Any = torch.cuda  # not fully typed
    marks = [cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
    cuda._sleep(HEAD_START_CYCLES)
    for _ in range(settle):
        run(0)
    marks[0].record()
    for mark in marks[1:]:
        run(0)
        mark.record()
    marks[-1].synchronize()
    return _timing([1e3 * float(begin.elapsed_time(end)) for begin, end in pairwise(marks)])


def _timing(times: list[float]) -> Timing:
    ordered = sorted(times)
    tenth = len(ordered) // 10
    return Timing(statistics.median(ordered), ordered[tenth], ordered[-1 - tenth])


def measure_ceilings(dtype: torch.dtype, device: torch.device, repeats: int = 20) -> Ceilings:
    """The ceilings of a device for one type of operands."""
    a, b = (torch.randn(MATMUL, MATMUL, device=device).to(dtype) for _ in range(2))
    matmul = (lambda _: dense_e4m3(a, b)) if dtype == E4M3 else (lambda _: a @ b)
    source = torch.empty(COPY_BYTES, dtype=torch.uint8, device=device).random_()
    target = torch.empty_like(source)
    runs: dict[str, Run] = {"matmul": matmul, "copy": lambda _: target.copy_(source)}
    times = time_runs(runs, repeats)
    return Ceilings(
        tflops=2 * MATMUL**3 / times["matmul"].median_us / 1e6,
        gbps=2 * COPY_BYTES / times["copy"].median_us / 1e3,
    )


def dense_e4m3(x: Tensor, weight: Tensor) -> Tensor:
    """torch's product of x [M, K] and weight [N, K], both e4m3, in bf16: its fastest, with one scale a tensor."""
    one = torch.ones((), device=x.device)
    result: Tensor = torch._scaled_mm(x, weight.T, one, one, out_dtype=torch.bfloat16, use_fast_accum=True)
    return result


def sets_beyond_l2(bytes_per_set: int, device: torch.device, most: int = 8) -> int:
    """How many sets of inputs it takes until a set has left L2 when its turn comes again."""
    l2 = torch.cuda.get_device_properties(device).L2_cache_size
    return max(1, min(most, 1 + 2 * l2 // max(1, bytes_per_set)))


def relative_error(result: Tensor, exact: Tensor) -> float:
    """||result - exact|| / ||exact||, in fp64; infinite for anything that is not finite."""
    error = float((result.double() - exact.double()).norm() / exact.double().norm())
    return error if error == error else float("inf")
