"""The grouped GEMM measured: ours in one and in several buffers, torch's, and a dense product of equal FLOPs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import torch
from dwdp_kernels.bench_problems import GroupedShape, in_buffers, random_rows, random_weights, skewed_offsets
from dwdp_kernels.bench_timing import Ceilings, Run, Timing, sets_beyond_l2, time_runs
from dwdp_kernels.e4m3 import E4M3, largest_error
from dwdp_kernels.expert_table import ExpertTable, expert_table
from dwdp_kernels.gemm_config import GemmConfig
from dwdp_kernels.grouped_gemm import Rows, config_for, multiply, problem_of, usable_loads
from dwdp_kernels.launch import device_of
from torch import Tensor
from torch.nn import functional

BUFFERS = (2, 4, 8)
LARGEST_ERROR = 1e-2
"""Relative, against float64 of the same operands: what bf16 or fp16 rounding of the result stays far under."""


class Operands(NamedTuple):
    """Inputs of one shape: sets of rows and weights that take turns."""

    rows: list[Rows]
    weights: list[Tensor]
    """[E, ...] each: what tables are made of"""
    table_of: Callable[[Sequence[Tensor] | Tensor], ExpertTable]
    rivals: Mapping[str, Run]
    """what else a user could call; "dense" among them"""
    unquantised: tuple[Tensor, Tensor] | None = None
    """the first rows [R, K] and weights [E, N, K] before they were quantised; None if they were not"""


def draw_operands(shape: GroupedShape, dtype: torch.dtype, skew: float, seed: int, device: torch.device) -> Operands:
    """Random operands, in as many sets as it takes to leave L2 behind."""
    x, weights, offsets = draw_tensors(shape, dtype, skew, seed, device, shape.moved_bytes(dtype.itemsize))
    rivals: dict[str, Run] = {
        "torch": lambda i: torch_grouped_mm(x[i % len(x)], weights[i % len(weights)], offsets),
        "dense": lambda i: functional.linear(x[i % len(x)], weights[i % len(weights)][0]),
    }
    return Operands([Rows(each, offsets) for each in x], weights, expert_table, rivals)


def draw_tensors(
    shape: GroupedShape, dtype: torch.dtype, skew: float, seed: int, device: torch.device, set_bytes: float
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Several x [R, K] and weights [E, N, K], and offsets [E + 1]; a set of them takes `set_bytes` of L2."""
    random = torch.Generator(device).manual_seed(seed)
    offsets = skewed_offsets(shape, skew, torch.Generator().manual_seed(seed)).to(device)
    sets = sets_beyond_l2(int(set_bytes), device)
    x = [random_rows(shape.rows, shape.k, dtype, random) for _ in range(max(2, sets))]
    return x, [random_weights(shape.experts, shape.n, shape.k, dtype, random) for _ in range(sets)], offsets


def torch_grouped_mm(x: Tensor, weights: Tensor, offsets: Tensor) -> Tensor:
    """torch's own grouped product of x [R, K] and weights [E, N, K]; public since 2.10."""
    product = getattr(functional, "grouped_mm", None) or torch._grouped_mm
    result: Tensor = product(x, weights.transpose(-2, -1), offs=offsets[1:])
    return result


def bench_grouped(shape: GroupedShape, operands: Operands, ceilings: Ceilings, repeats: int) -> dict[str, Any]:
    """Figures of one shape. Raises ArithmeticError when a result is wrong: a wrong kernel has no speed."""
    rows = operands.rows
    offsets, device = rows[0].offsets, device_of(rows[0].x)
    tables = [operands.table_of(weights) for weights in operands.weights]
    config = config_for(problem_of(rows[0], tables[0], "product"), device)
    result = multiply(rows[0], tables[0], "product", config)
    bound = largest_error(shape.k, config.promote) if tables[0].dtype == E4M3 else LARGEST_ERROR
    error = checked_error(result, exact_products(rows[0], tables[0]), offsets, bound)
    runs: dict[str, Run] = {
        "ours": lambda i: multiply(rows[i % len(rows)], tables[i % len(tables)], "product", config),
        **operands.rivals,
    }
    times = time_runs(runs, repeats, len(rows))
    limit = ceilings.limit_us(shape.flops, shape.moved_bytes(tables[0].dtype.itemsize, result.element_size()))
    torch_time = times.get("torch")
    figures_of_all: dict[str, Any] = {
        **shape._asdict(),
        "busiest_expert_rows": int(offsets.diff().max()),
        "empty_experts": int((offsets.diff() == 0).sum()),
        "limit_us": limit,
        **{name: figures(timing, shape.flops, limit) for name, timing in times.items()},
        "torch_time_over_ours": torch_time.median_us / times["ours"].median_us if torch_time else None,
        "relative_error": error,
        "buffers": {
            str(count): bench_buffers(operands, tables[0], config, count, repeats)
            for count in BUFFERS
            if count <= shape.experts
        },
        "config": asdict(config),
        "weight_loads": usable_loads(config.weights, tables[0], device),
    }
    if operands.unquantised is not None:
        x, weights = operands.unquantised
        exact = exact_products(Rows(x, offsets), expert_table(weights))
        figures_of_all["error_of_unquantised"] = error_of(result, exact, offsets)
    return figures_of_all


def bench_buffers(operands: Operands, one: ExpertTable, config: GemmConfig, count: int, repeats: int) -> dict[str, Any]:
    """The time of one buffer over that of `count` buffers, and whether the results are the same bits."""
    rows = operands.rows
    split = operands.table_of(in_buffers(operands.weights[0], count))
    runs: dict[str, Run] = {
        "one": lambda i: multiply(rows[i], one, "product", config),
        "split": lambda i: multiply(rows[i], split, "product", config),
    }
    times = time_runs(runs, repeats, len(rows))
    same = torch.equal(multiply(rows[0], split, "product", config), multiply(rows[0], one, "product", config))
    return {
        "one_time_over_split": times["one"].median_us / times["split"].median_us,
        "bit_equal": same,
        "weight_loads": usable_loads(config.weights, split, device_of(rows[0].x)),
    }


def exact_products(rows: Rows, table: ExpertTable) -> Callable[[int, slice], Tensor]:
    """The float64 product of a span of rows and an expert's weights, whatever their scales."""

    def product(expert: int, span: slice) -> Tensor:
        x, weight = rows.x[span].double(), table.weights[expert].double()
        if rows.scales is not None:
            x = x * rows.scales[span, None].double()
            weight = weight * table.scales[expert][:, None].double()
        return functional.linear(x, weight)

    return product


def error_of(result: Tensor, exact: Callable[[int, slice], Tensor], offsets: Tensor) -> float:
    """The relative error of all rows, expert by expert."""
    off, size = 0.0, 0.0
    ends = offsets.tolist()
    for expert in range(len(ends) - 1):
        span = slice(ends[expert], ends[expert + 1])
        wanted = exact(expert, span)
        off += float((result[span].double() - wanted).square().sum())
        size += float(wanted.square().sum())
    return (off / size) ** 0.5 if size else 0.0


def checked_error(
    result: Tensor, exact: Callable[[int, slice], Tensor], offsets: Tensor, bound: float = LARGEST_ERROR
) -> float:
    """error_of. Raises ArithmeticError when it is out of bounds."""
    error = error_of(result, exact, offsets)
    if not error <= bound:
        raise ArithmeticError(f"the grouped GEMM is off by {error:.2e} (relative); at most {bound:.1e} is right")
    return error


def figures(timing: Timing, flops: float, limit_us: float) -> dict[str, float]:
    """What the reports give of one timing."""
    return {
        **timing._asdict(),
        "tflops": flops / timing.median_us / 1e6,
        "fraction_of_limit": limit_us / timing.median_us,
    }
