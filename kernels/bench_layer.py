"""A whole MoE layer measured: ours, transformers' grouped_mm experts, and a loop over experts; and its small parts."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import torch
from dwdp_kernels.bench_grouped import LARGEST_ERROR, figures
from dwdp_kernels.bench_problems import LayerShape, random_rows, random_weights, skewed_routing
from dwdp_kernels.bench_timing import Ceilings, Run, relative_error, time_runs
from dwdp_kernels.expert_mlp import LayerConfig, choose_layer_config, expert_mlp
from dwdp_kernels.expert_table import ExpertTable, expert_table
from dwdp_kernels.grouped_gemm import Rows
from dwdp_kernels.grouped_mlp import grouped_mlp, weighted_sum
from dwdp_kernels.residual import add_norm, combine, combine_norm
from dwdp_kernels.routing import route_visits
from torch import Tensor
from torch.nn import functional

CHECKED_TOKENS = 512
X_SETS = 4
NORM_EPS = 1e-6


class Layer(NamedTuple):
    """Inputs of one shape. w13 is [E, 2I, H], w2 [E, H, I]."""

    x: list[Tensor]
    ids: Tensor
    weights: Tensor
    w13: Tensor
    w2: Tensor


def draw_layer(shape: LayerShape, dtype: torch.dtype, skew: float, seed: int, device: torch.device) -> Layer:
    """Random inputs. The weights alone are far larger than L2."""
    random = torch.Generator(device).manual_seed(seed)
    ids, weights = skewed_routing(shape, skew, torch.Generator().manual_seed(seed))
    return Layer(
        [random_rows(shape.tokens, shape.hidden, dtype, random) for _ in range(X_SETS)],
        ids.to(device),
        weights.to(device, dtype),
        random_weights(shape.experts, 2 * shape.inner, shape.hidden, dtype, random),
        random_weights(shape.experts, shape.hidden, shape.inner, dtype, random),
    )


def bench_layer(shape: LayerShape, layer: Layer, ceilings: Ceilings, repeats: int) -> dict[str, Any]:
    """Figures of one layer. Raises ArithmeticError when a result is wrong: a wrong kernel has no speed."""
    x, ids, weights, w13, w2 = layer
    tables = expert_table(w13), expert_table(w2)
    config = layer_config(layer, tables)
    error = checked_error(expert_mlp(x[0], ids, weights, *tables, config), layer)
    # the second half in a buffer of its own, as pulled weights are
    half = shape.experts // 2
    split = tuple(expert_table([*w[:half], *w[half:].clone()]) for w in (w13, w2))
    runs: dict[str, Run] = {
        "ours": lambda i: expert_mlp(x[i], ids, weights, *tables, config),
        "ours_two_buffers": lambda i: expert_mlp(x[i], ids, weights, split[0], split[1], config),
        "eager_loop": lambda i: grouped_mlp(x[i], ids, weights, w13.unbind(0), w2.unbind(0)),
    }
    theirs = transformers_experts(w13, w2, ids.shape[1])
    if theirs is not None:
        relative = relative_error(theirs(x[0], ids, weights), expert_mlp(x[0], ids, weights, *tables, config))
        if not relative <= 2 * LARGEST_ERROR:
            raise ArithmeticError(f"transformers' result and ours differ by {relative:.2e} (relative)")
        runs["transformers"] = lambda i: theirs(x[i], ids, weights)
    times = time_runs(runs, repeats, len(x))
    limit = ceilings.limit_us(shape.flops, shape.moved_bytes(x[0].element_size()))
    ours = times["ours"].median_us
    return {
        **shape._asdict(),
        "limit_us": limit,
        **{name: figures(timing, shape.flops, limit) for name, timing in times.items()},
        "time_over_ours": {name: timing.median_us / ours for name, timing in times.items() if name != "ours"},
        "relative_error": error,
        "transformers_version": importlib.import_module("transformers").__version__ if theirs is not None else None,
        "config": {"up": asdict(config.up), "down": asdict(config.down)},
        "parts": bench_parts(shape, layer, ceilings, repeats),
    }


def bench_parts(shape: LayerShape, layer: Layer, ceilings: Ceilings, repeats: int) -> dict[str, Any]:
    """The layer's memory-bound parts beside torch's own operations: the sort of its visits, the weighted sum, and both
    kernels that add to the residual stream and norm it. (Of `combine_norm` torch has the addition and the norm; the sum
    before them is by our kernel in both.)"""
    ids, weights, (before, added) = layer.ids, layer.weights, layer.x[:2]
    routes = route_visits(ids, shape.experts)
    rows = before.repeat_interleave(shape.top_k, 0)
    spread = routes.row_of_visit.view(-1).long()
    every = torch.arange(shape.experts + 1, device=ids.device)
    norm_weight = torch.ones_like(before[0])

    def sort_with_torch(_: int) -> tuple[Tensor, ...]:
        by_expert, order = ids.view(-1).sort(stable=True)
        return order // shape.top_k, order.argsort(), torch.searchsorted(by_expert, every)

    def normed_by_torch(total: Tensor) -> Tensor:
        return functional.rms_norm(total, norm_weight.shape, norm_weight, NORM_EPS)

    runs: dict[str, Run] = {
        "route": lambda _: route_visits(ids, shape.experts),
        "route_torch": sort_with_torch,
        "combine": lambda _: combine(rows, routes.row_of_visit, weights),
        "combine_torch": lambda _: weighted_sum(rows[spread].view(shape.tokens, shape.top_k, -1), weights),
        "add_norm": lambda _: add_norm(before, added, norm_weight, NORM_EPS),
        "add_norm_torch": lambda _: normed_by_torch(before + added),
        "combine_norm": lambda _: combine_norm(
            rows, routes.row_of_visit, weights, norm_weight, NORM_EPS, before=before
        ),
        "combine_norm_torch": lambda _: normed_by_torch(before + combine(rows, routes.row_of_visit, weights)),
    }
    moved = {
        "route": ids.numel() * (ids.element_size() + 8),
        "combine": rows.nbytes + before.nbytes,
        "add_norm": 4 * before.nbytes,
        "combine_norm": rows.nbytes + 3 * before.nbytes,
    }
    return timed_parts(runs, {name: moved[name.removesuffix("_torch")] for name in runs}, ceilings, repeats)


def timed_parts(
    runs: Mapping[str, Run], moved_bytes: Mapping[str, int], ceilings: Ceilings, repeats: int
) -> dict[str, Any]:
    """Figures of parts that are bound by the bytes they move."""
    limits = {name: ceilings.limit_us(0.0, moved_bytes[name]) for name in runs}
    return {
        name: {
            **timing._asdict(),
            "limit_us": limits[name],
            "fraction_of_limit": limits[name] / timing.median_us,
        }
        for name, timing in time_runs(runs, repeats).items()
    }


def layer_config(layer: Layer, tables: tuple[ExpertTable, ExpertTable]) -> LayerConfig:
    """The configurations that a layer's shapes get with its weights in these tables."""
    routes = route_visits(layer.ids, len(layer.w13))
    return choose_layer_config(Rows(layer.x[0], routes.offsets, routes.token_of_row), *tables)


def exact_layer(layer: Layer, some: slice) -> Tensor:
    """The float64 result of some tokens of the first x."""
    exact = torch.zeros_like(layer.x[0][some], dtype=torch.float64)
    for expert in sorted(set(layer.ids[some].flatten().tolist())):
        tokens, places = torch.where(layer.ids[some] == expert)
        gate, up = (layer.x[0][some][tokens].double() @ layer.w13[expert].double().T).chunk(2, dim=-1)
        rows = (functional.silu(gate) * up) @ layer.w2[expert].double().T
        exact.index_add_(0, tokens, rows * layer.weights[some][tokens, places, None].double())
    return exact


def checked_error(result: Tensor, layer: Layer) -> float:
    """The relative error of some tokens against float64. Raises ArithmeticError when it is out of bounds."""
    some = slice(0, min(CHECKED_TOKENS, len(layer.ids)))
    exact = exact_layer(layer, some)
    error = relative_error(result[some], exact)
    if not error <= LARGEST_ERROR:
        raise ArithmeticError(f"the expert layer is off by {error:.2e} (relative); at most {LARGEST_ERROR} is right")
    return error


def transformers_experts(w13: Tensor, w2: Tensor, top_k: int) -> Callable[[Tensor, Tensor, Tensor], Tensor] | None:
    """transformers' own Qwen3-MoE experts on these weights by its grouped_mm path; None where it is not installed."""
    if importlib.util.find_spec("transformers") is None:
        return None
    configuration = importlib.import_module("transformers.models.qwen3_moe.configuration_qwen3_moe")
    modeling = importlib.import_module("transformers.models.qwen3_moe.modeling_qwen3_moe")
    shape = configuration.Qwen3MoeConfig(
        hidden_size=w2.shape[1],
        moe_intermediate_size=w2.shape[2],
        num_experts=len(w2),
        num_experts_per_tok=top_k,
        hidden_act="silu",
    )
    shape._experts_implementation = "grouped_mm"
    with torch.device("meta"):
        experts = modeling.Qwen3MoeExperts(shape)
    experts.gate_up_proj = torch.nn.Parameter(w13, requires_grad=False)
    experts.down_proj = torch.nn.Parameter(w2, requires_grad=False)

    def run(x: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
        result: Tensor = experts(x, ids, weights)
        return result

    return run
