"""Autotuning on request: every candidate configuration of a shape timed on this device, the best kept in a table."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import torch
import triton
from dwdp_kernels.bench_timing import Run, relative_error, time_runs
from dwdp_kernels.gemm_config import GemmConfig, Kind, Problem, default_config, table_entry
from dwdp_kernels.launch import Device
from torch import Tensor

CLOSE_ENOUGH = 5e-3
"""Relative difference that two right configurations may show: the order of sums, and rounding."""
SCREENING_REPEATS = 5
FINALISTS = 4

BIG = GemmConfig(128, 256, 64)
TALL = GemmConfig(256, 128, 64)
SQUARE = GemmConfig(128, 128, 64)
FLAT = GemmConfig(64, 256, 64)
SMALL = GemmConfig(64, 128, 64)

PRODUCTS = (
    BIG,
    replace(BIG, stages=4, stores=2),
    replace(BIG, stages=4, stores=2, group_m=4),
    replace(BIG, stages=4, stores=2, group_m=16),
    replace(BIG, stages=4, stores=2, weights="each"),
    TALL,
    replace(TALL, stages=4, stores=2),
    replace(SQUARE, stages=4),
    replace(SQUARE, stages=4, group_m=16),
    replace(SQUARE, warps=4, stages=3, stores=2, programs_per_processor=2),
    replace(FLAT, stages=4),
    replace(FLAT, warps=4, stages=4),
    replace(FLAT, stages=4, group_m=4),
    replace(SMALL, warps=4, stages=4, programs_per_processor=2),
    replace(SMALL, block_k=128, warps=4, stages=4),
    GemmConfig(32, 128, 128, warps=4, stages=4),
)
SWIGLUS = (
    BIG,
    replace(BIG, stages=4),
    replace(BIG, stages=4, group_m=16),
    replace(BIG, stages=4, weights="each"),
    replace(BIG, stages=4, gather="separate"),
    replace(BIG, stages=3, gather="separate"),
    replace(TALL, stages=4, gather="separate"),
    replace(SQUARE, stages=4),
    replace(SQUARE, stages=4, gather="separate"),
    replace(SQUARE, warps=4, stages=3, programs_per_processor=2),
    replace(SQUARE, warps=4, stages=3, programs_per_processor=2, gather="separate"),
    replace(FLAT, stages=4),
    replace(FLAT, stages=4, gather="separate"),
    replace(SMALL, warps=4, stages=4, programs_per_processor=2),
    GemmConfig(32, 128, 128, warps=4, stages=4),
)
PLAIN = (
    GemmConfig(128, 128, 32, warps=4, stages=4, weights="plain"),
    GemmConfig(128, 128, 32, stages=4, weights="plain"),
    GemmConfig(128, 256, 32, stages=3, weights="plain"),
    GemmConfig(128, 64, 32, warps=4, stages=4, weights="plain"),
    GemmConfig(64, 128, 32, warps=4, stages=4, weights="plain"),
    GemmConfig(64, 64, 32, warps=4, stages=3, weights="plain"),
    GemmConfig(32, 128, 64, warps=4, stages=3, weights="plain"),
)
CANDIDATES: dict[Kind, tuple[GemmConfig, ...]] = {"product": PRODUCTS, "swiglu": SWIGLUS}

Multiply = Callable[[int, GemmConfig], Tensor]
"""The GEMM on the i-th set of inputs with a configuration."""


class Tuned(NamedTuple):
    """What tuning one problem found."""

    problem: Problem
    best: GemmConfig
    median_us: float
    tflops: float
    default_us: float
    """of the configuration that the rules give"""
    refused: dict[str, str]
    """candidate to reason: does not fit the device, or gives another result"""

    def entry(self) -> dict[str, Any]:
        """An entry of a table in data/kernels/."""
        measured = {"median_us": self.median_us, "tflops": self.tflops, "default_us": self.default_us}
        return table_entry(self.problem, self.best, {name: round(value, 2) for name, value in measured.items()})


def candidates(problem: Problem, device: Device) -> Iterator[GemmConfig]:
    """The configurations worth a try, the default first."""
    default = default_config(problem, device.capability)
    yield default
    tried = CANDIDATES[problem.kind] if device.has_tma and problem.element_bytes <= 2 else PLAIN
    if problem.element_bytes == 1:
        # as many bytes of k at once; how exact sums are is not for the clock to decide
        tried = tuple(replace(config, block_k=2 * config.block_k, promote=default.promote) for config in tried)
    yield from (config for config in tried if config != default)


def tune(problem: Problem, multiply: Multiply, sets: int, device: Device, repeats: int) -> Tuned:
    """Time all candidates a few times, then the fastest ones properly.

    Raises ArithmeticError when not even the default runs.
    """
    default = default_config(problem, device.capability)
    usable, refused = _usable(problem, multiply, device)
    if default not in usable:
        raise ArithmeticError(f"the default configuration does not run: {refused[str(default)]}")

    def runs_of(configs: list[GemmConfig]) -> dict[str, Run]:
        return {str(config): lambda i, config=config: multiply(i, config) for config in configs}  # type: ignore[misc]

    screened = time_runs(runs_of(usable), SCREENING_REPEATS, sets)
    fastest = sorted(usable, key=lambda config: screened[str(config)].median_us)[:FINALISTS]
    if default not in fastest:
        fastest.append(default)
    times = time_runs(runs_of(fastest), repeats, sets)
    best = min(fastest, key=lambda config: times[str(config)].median_us)
    median_us = times[str(best)].median_us
    flops = 2.0 * problem.rows * problem.k * problem.n * (2 if problem.kind == "swiglu" else 1)
    return Tuned(problem, best, median_us, flops / median_us / 1e6, times[str(default)].median_us, refused)


def _usable(problem: Problem, multiply: Multiply, device: Device) -> tuple[list[GemmConfig], dict[str, str]]:
    usable: list[GemmConfig] = []
    refused: dict[str, str] = {}
    expected: Tensor | None = None
    for config in candidates(problem, device):
        try:
            result = multiply(0, config)
            torch.cuda.synchronize()
        except (triton.runtime.errors.OutOfResources, triton.CompilationError) as error:
            refused[str(config)] = str(error).splitlines()[0]
            continue
        expected = result if expected is None else expected
        difference = relative_error(result, expected)
        if difference <= CLOSE_ENOUGH:
            usable.append(config)
        else:
            refused[str(config)] = f"its result differs by {difference:.1e}"
    return usable, refused


def table_of(tuned: list[Tuned], device: Device, before: dict[str, Any] | None) -> dict[str, Any]:
    """The table of a device with these entries, and those of `before` for other problems."""
    entries = [one.entry() for one in tuned]
    known = [entry["problem"] for entry in entries]
    kept = [entry for entry in before["entries"] if entry["problem"] not in known] if before else []
    return {
        "device": device.name,
        "capability": list(device.capability),
        "triton": triton.__version__,
        "torch": torch.__version__,
        "measured_on": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "source": "dwdp-lab bench kernels --tune: medians on random data, rows spread by a skewed router",
        "entries": [*kept, *entries],
    }
