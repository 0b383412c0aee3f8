"""The kernel benchmark: every shape against the alternatives a user would otherwise call, and against the limit."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import triton
from dwdp_kernels.bench_grouped import bench_grouped, draw_operands
from dwdp_kernels.bench_layer import bench_layer, draw_layer
from dwdp_kernels.bench_problems import GROUPED_SHAPES, LAYER_SHAPES, SKEW, GroupedShape, LayerShape
from dwdp_kernels.bench_timing import measure_ceilings
from dwdp_kernels.expert_table import expert_table
from dwdp_kernels.gemm_config import table_of_device, write_table
from dwdp_kernels.grouped_gemm import Rows, grouped_gemm, grouped_swiglu, problem_of
from dwdp_kernels.launch import device_of
from dwdp_kernels.routing import route_visits
from dwdp_kernels.tune import Tuned, table_of, tune

Say = Callable[[str], object]


class Plan(NamedTuple):
    """What to measure, and how."""

    grouped: Sequence[GroupedShape] = GROUPED_SHAPES
    layers: Sequence[LayerShape] = LAYER_SHAPES
    dtype: torch.dtype = torch.bfloat16
    skew: float = SKEW
    seed: int = 0
    repeats: int = 30

    @property
    def device(self) -> torch.device:
        """The current GPU."""
        return torch.device("cuda", torch.cuda.current_device())


def run_bench(plan: Plan, say: Say) -> dict[str, Any]:
    """Figures of all shapes of a plan, and a summary. Needs a GPU."""
    say("measuring what this GPU can reach")
    ceilings = measure_ceilings(plan.dtype, plan.device)
    grouped, layers = [], []
    for shape in plan.grouped:
        say(f"grouped GEMM {tuple(shape)}")
        operands = draw_operands(shape, plan.dtype, plan.skew, plan.seed, plan.device)
        grouped.append(bench_grouped(shape, operands, ceilings, plan.repeats))
        del operands
        torch.cuda.empty_cache()
    for layer in plan.layers:
        say(f"MoE layer {layer.name}")
        drawn = draw_layer(layer, plan.dtype, plan.skew, plan.seed, plan.device)
        layers.append(bench_layer(layer, drawn, ceilings, plan.repeats))
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
    ratios = [row["torch_time_over_ours"] for row in grouped]
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
    operands = draw_operands(shape, plan.dtype, plan.skew, plan.seed, plan.device)
    x, offsets = operands.x, operands.offsets
    tables = [expert_table(weights) for weights in operands.weights]
    found = tune(
        problem_of(Rows(x[0], offsets), tables[0], "product"),
        lambda i, config: grouped_gemm(x[i % len(x)], tables[i % len(tables)], offsets, config),
        len(x),
        device_of(offsets),
        plan.repeats,
    )
    torch.cuda.empty_cache()
    return found


def _tune_layer(plan: Plan, shape: LayerShape, say: Say) -> list[Tuned]:
    """Both GEMMs of a layer, each alone."""
    layer = draw_layer(shape, plan.dtype, plan.skew, plan.seed, plan.device)
    w13, w2 = expert_table(layer.w13), expert_table(layer.w2)
    routes = route_visits(layer.ids, shape.experts)
    device = device_of(layer.ids)
    gathered = Rows(layer.x[0], routes.offsets, routes.token_of_row)
    inner = [grouped_swiglu(x, w13, routes) for x in layer.x[:2]]
    say(f"tuning the first GEMM of {shape.name}")
    up = tune(
        problem_of(gathered, w13, "swiglu"),
        lambda i, config: grouped_swiglu(layer.x[i], w13, routes, config),
        len(layer.x),
        device,
        plan.repeats,
    )
    say(f"tuning the second GEMM of {shape.name}")
    down = tune(
        problem_of(Rows(inner[0], routes.offsets), w2, "product"),
        lambda i, config: grouped_gemm(inner[i], w2, routes.offsets, config),
        len(inner),
        device,
        plan.repeats,
    )
    torch.cuda.empty_cache()
    return [up, down]
