"""The kernel benchmark: every shape against the alternatives a user would otherwise call, and against the limit."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import triton
from dwdp_kernels.bench_grouped import Operands, bench_grouped, draw_operands
from dwdp_kernels.bench_layer import Layer, bench_layer, draw_layer
from dwdp_kernels.bench_problems import GROUPED_SHAPES, LAYER_SHAPES, SKEW, GroupedShape, LayerShape
from dwdp_kernels.bench_scaled_grouped import draw_scaled_operands
from dwdp_kernels.bench_scaled_layer import bench_scaled_layer, packed
from dwdp_kernels.bench_timing import measure_ceilings
from dwdp_kernels.e4m3 import E4M3
from dwdp_kernels.expert_table import ExpertTable, expert_table
from dwdp_kernels.gemm_config import Kind, table_of_device, write_table
from dwdp_kernels.grouped_gemm import Rows, multiply, problem_of
from dwdp_kernels.launch import device_of
from dwdp_kernels.routing import route_visits
from dwdp_kernels.tune import Tuned, table_of, tune

Say = Callable[[str], object]

WIDE = torch.bfloat16
"""What is quantised, and the results' type, where operands are in e4m3."""


class Plan(NamedTuple):
    """What to measure, and how."""

    grouped: Sequence[GroupedShape] = GROUPED_SHAPES
    layers: Sequence[LayerShape] = LAYER_SHAPES
    dtype: torch.dtype = torch.bfloat16
    """of operands and results; e4m3: of operands, and all else is in WIDE"""
    skew: float = SKEW
    seed: int = 0
    repeats: int = 30

    @property
    def device(self) -> torch.device:
        """The current GPU."""
        return torch.device("cuda", torch.cuda.current_device())

    @property
    def scaled(self) -> bool:
        """Whether operands are in e4m3, with scales."""
        return self.dtype == E4M3

    def operands(self, shape: GroupedShape) -> Operands:
        """Random ones of a shape."""
        if self.scaled:
            return draw_scaled_operands(shape, WIDE, self.skew, self.seed, self.device)
        return draw_operands(shape, self.dtype, self.skew, self.seed, self.device)

    def layer(self, shape: LayerShape) -> Layer:
        """A random one of a shape, not quantised."""
        return draw_layer(shape, WIDE if self.scaled else self.dtype, self.skew, self.seed, self.device)


def run_bench(plan: Plan, say: Say) -> dict[str, Any]:
    """Figures of all shapes of a plan, and a summary. Needs a GPU."""
    say("measuring what this GPU can reach")
    ceilings = measure_ceilings(plan.dtype, plan.device)
    grouped, layers = [], []
    for shape in plan.grouped:
        say(f"grouped GEMM {tuple(shape)}")
        operands = plan.operands(shape)
        grouped.append(bench_grouped(shape, operands, ceilings, plan.repeats))
        del operands
        torch.cuda.empty_cache()
    for layer in plan.layers:
        say(f"MoE layer {layer.name}")
        drawn = plan.layer(layer)
        measure = bench_scaled_layer if plan.scaled else bench_layer
        layers.append(measure(layer, drawn, ceilings, plan.repeats))
        del drawn
        torch.cuda.empty_cache()
    return {
        "provenance": "measured",
        **machine(plan.device),
        "dtype": str(plan.dtype).removeprefix("torch."),
        "router_skew": plan.skew,
        "seed": plan.seed,
        "repeats": plan.repeats,
        "ceilings": ceilings._asdict(),
        "grouped": grouped,
        "layers": layers,
        "summary": summary(grouped, layers),
    }


def machine(device: torch.device) -> dict[str, Any]:
    """What the figures belong to."""
    found = torch.cuda.get_device_properties(device)
    return {
        "device": found.name,
        "capability": [found.major, found.minor],
        "processors": found.multi_processor_count,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "triton": triton.__version__,
    }


def summary(grouped: list[dict[str, Any]], layers: list[dict[str, Any]]) -> dict[str, Any]:
    """The few figures by which the kernels stand or fall; None where nothing was measured."""
    ratios = [row["torch_time_over_ours"] for row in grouped if row["torch_time_over_ours"] is not None]
    splits = [split for row in grouped for split in row["buffers"].values()]
    return {
        "torch_time_over_ours_geometric_mean": geometric_mean(ratios),
        "torch_time_over_ours_least": min(ratios, default=None),
        "one_buffer_time_over_split_least": min((split["one_time_over_split"] for split in splits), default=None),
        "split_buffers_bit_equal": all(split["bit_equal"] for split in splits) if splits else None,
        "largest_relative_error": max((row["relative_error"] for row in [*grouped, *layers]), default=None),
        "layer_tflops": {row["name"]: row["ours"]["tflops"] for row in layers},
        "transformers_time_over_ours": {row["name"]: row["time_over_ours"].get("transformers") for row in layers},
    }


def geometric_mean(values: Sequence[float]) -> float | None:
    """None of nothing."""
    return math.exp(sum(math.log(value) for value in values) / len(values)) if values else None


def run_tuning(plan: Plan, say: Say) -> tuple[list[Tuned], Path]:
    """Tune the GEMMs of all shapes of a plan and write this device's table. Returns what was found, and where it is."""
    tuned = [_tune_grouped(plan, shape, say) for shape in plan.grouped]
    for layer in plan.layers:
        tuned += _tune_layer(plan, layer, say)
    device = device_of(torch.empty(0, device=plan.device))
    before = table_of_device(device.name, triton.__version__)
    return tuned, write_table(table_of(tuned, device, before))


def _tune_grouped(plan: Plan, shape: GroupedShape, say: Say) -> Tuned:
    say(f"tuning grouped GEMM {tuple(shape)}")
    operands = plan.operands(shape)
    return _tune(plan, operands.rows, [operands.table_of(weights) for weights in operands.weights], "product")


def _tune_layer(plan: Plan, shape: LayerShape, say: Say) -> list[Tuned]:
    """Both GEMMs of a layer, each alone."""
    layer = plan.layer(shape)
    w13, w2 = packed(layer).tables() if plan.scaled else (expert_table(layer.w13), expert_table(layer.w2))
    routes = route_visits(layer.ids, shape.experts)
    gathered = [Rows(x, routes.offsets, routes.token_of_row) for x in layer.x]
    inner = [Rows(multiply(rows, w13, "swiglu"), routes.offsets) for rows in gathered[:2]]
    if plan.scaled:
        gathered, inner = ([rows.quantised() for rows in each] for each in (gathered, inner))
    say(f"tuning the first GEMM of {shape.name}")
    up = _tune(plan, gathered, [w13], "swiglu")
    say(f"tuning the second GEMM of {shape.name}")
    return [up, _tune(plan, inner, [w2], "product")]


def _tune(plan: Plan, rows: list[Rows], tables: list[ExpertTable], kind: Kind) -> Tuned:
    found = tune(
        problem_of(rows[0], tables[0], kind),
        lambda i, config: multiply(rows[i % len(rows)], tables[i % len(tables)], kind, config),
        len(rows),
        device_of(rows[0].offsets),
        plan.repeats,
    )
    torch.cuda.empty_cache()
    return found
