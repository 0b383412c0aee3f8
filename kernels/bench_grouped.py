"""The grouped GEMM measured: ours in one and in several buffers, torch's, and a dense product of equal FLOPs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, NamedTuple

import torch
from dwdp_kernels.bench_problems import GroupedShape, in_buffers, random_rows, random_weights, skewed_offsets
from dwdp_kernels.bench_timing import Ceilings, Run, Timing, sets_beyond_l2, time_runs
from dwdp_kernels.expert_table import ExpertTable, expert_table
from dwdp_kernels.gemm_config import GemmConfig
from dwdp_kernels.grouped_gemm import Rows, config_for, grouped_gemm, problem_of, usable_loads
from dwdp_kernels.launch import device_of
from torch import Tensor
from torch.nn import functional

BUFFERS = (2, 4, 8)
LARGEST_ERROR = 1e-2
"""Relative, against float64 of the same operands: what bf16 or fp16 rounding of the result stays far under."""


class Operands(NamedTuple):
    """Inputs of one shape: sets of rows and weights that take turns."""

    x: list[Tensor]
    weights: list[Tensor]
    offsets: Tensor


def draw_operands(shape: GroupedShape, dtype: torch.dtype, skew: float, seed: int, device: torch.device) -> Operands:
    """Random operands, in as many sets as it takes to leave L2 behind."""
    random = torch.Generator(device).manual_seed(seed)
    offsets = skewed_offsets(shape, skew, torch.Generator().manual_seed(seed)).to(device)
    sets = sets_beyond_l2(int(shape.moved_bytes(dtype.itemsize)), device)
    x = [random_rows(shape.rows, shape.k, dtype, random) for _ in range(max(2, sets))]
    weights = [random_weights(shape.experts, shape.n, shape.k, dtype, random) for _ in range(sets)]
    return Operands(x, weights, offsets)


def torch_grouped_mm(x: Tensor, weights: Tensor, offsets: Tensor) -> Tensor:
    """torch's own grouped product of x [R, K] and weights [E, N, K]; public since 2.10."""
    product = getattr(functional, "grouped_mm", None) or torch._grouped_mm
    result: Tensor = product(x, weights.transpose(-2, -1), offs=offsets[1:])
    return result


def bench_grouped(shape: GroupedShape, operands: Operands, ceilings: Ceilings, repeats: int) -> dict[str, Any]:
    """Figures of one shape. Raises ArithmeticError when a result is wrong: a wrong kernel has no speed."""
    x, offsets = operands.x, operands.offsets
    tables = [expert_table(weights) for weights in operands.weights]
    config = config_for(problem_of(Rows(x[0], offsets), tables[0], "product"), device_of(x[0]))
    error = checked_error(grouped_gemm(x[0], tables[0], offsets, config), x[0], operands.weights[0], offsets)
    runs: dict[str, Run] = {
        "ours": lambda i: grouped_gemm(x[i % len(x)], tables[i % len(tables)], offsets, config),
        "torch": lambda i: torch_grouped_mm(x[i % len(x)], operands.weights[i % len(tables)], offsets),
        "dense": lambda i: functional.linear(x[i % len(x)], operands.weights[i % len(tables)][0]),
    }
    times = time_runs(runs, repeats, len(x))
    limit = ceilings.limit_us(shape.flops, shape.moved_bytes(x[0].element_size()))
    return {
        **shape._asdict(),
        "busiest_expert_rows": int(offsets.diff().max()),
        "empty_experts": int((offsets.diff() == 0).sum()),
        "limit_us": limit,
        **{name: figures(timing, shape.flops, limit) for name, timing in times.items()},
        "torch_time_over_ours": times["torch"].median_us / times["ours"].median_us,
        "relative_error": error,
        "buffers": {
            str(count): bench_buffers(operands, tables[0], config, count, repeats)
            for count in BUFFERS
            if count <= shape.experts
        },
        "config": asdict(config),
        "weight_loads": usable_loads(config.weights, tables[0], device_of(x[0])),
    }


def bench_buffers(operands: Operands, one: ExpertTable, config: GemmConfig, count: int, repeats: int) -> dict[str, Any]:
    """The time of one buffer over that of `count` buffers, and whether the results are the same bits."""
    x, offsets = operands.x, operands.offsets
    split = expert_table(in_buffers(operands.weights[0], count))
    runs: dict[str, Run] = {
        "one": lambda i: grouped_gemm(x[i], one, offsets, config),
        "split": lambda i: grouped_gemm(x[i], split, offsets, config),
    }
    times = time_runs(runs, repeats, len(x))
    same = torch.equal(grouped_gemm(x[0], split, offsets, config), grouped_gemm(x[0], one, offsets, config))
    return {
        "one_time_over_split": times["one"].median_us / times["split"].median_us,
        "bit_equal": same,
        "weight_loads": usable_loads(config.weights, split, device_of(x[0])),
    }


def checked_error(result: Tensor, x: Tensor, weights: Tensor, offsets: Tensor) -> float:
    """The relative error against float64, expert by expert. Raises ArithmeticError when it is out of bounds."""
    off, size = 0.0, 0.0
    ends = offsets.tolist()
    for expert, weight in enumerate(weights):
        span = slice(ends[expert], ends[expert + 1])
        exact = functional.linear(x[span].double(), weight.double())
        off += float((result[span].double() - exact).square().sum())
        size += float(exact.square().sum())
    error = (off / size) ** 0.5 if size else 0.0
    if not error <= LARGEST_ERROR:
        raise ArithmeticError(f"the grouped GEMM is off by {error:.2e} (relative); at most {LARGEST_ERROR} is right")
    return error


def figures(timing: Timing, flops: float, limit_us: float) -> dict[str, float]:
    """What the reports give of one timing."""
    return {
        **timing._asdict(),
        "tflops": flops / timing.median_us / 1e6,
        "fraction_of_limit": limit_us / timing.median_us,
    }
