"""A whole MoE layer with weights in e4m3 measured: beside ours in bf16, and its rows' quantisation beside torch's."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, NamedTuple

import torch
from dwdp_kernels.bench_grouped import figures
from dwdp_kernels.bench_layer import CHECKED_TOKENS, Layer, exact_layer, layer_config, timed_parts
from dwdp_kernels.bench_problems import LayerShape
from dwdp_kernels.bench_timing import Ceilings, Run, relative_error, time_runs
from dwdp_kernels.e4m3 import E4M3, quantise
from dwdp_kernels.expert_mlp import expert_mlp
from dwdp_kernels.expert_table import ExpertTable, expert_table
from dwdp_kernels.quantise_rows import quantise_rows
from dwdp_kernels.scaled_experts import pack_experts, quantise_experts, quantised_experts, scaled_expert_table
from dwdp_kernels.scaled_grouped_mlp import scaled_grouped_mlp
from torch import Tensor

LARGEST_ERROR = 5e-2
"""Relative, against float64 of the same quantised weights and rows.

Sums that are off by d, relative, round some elements between the GEMMs to e4m3's other neighbour, s = 1/8 to 1/16 away:
about d / s of them, so by (d s)**0.5 in the root mean square; on Hopper d is up to 1e-2.
"""


class Packed(NamedTuple):
    """A layer's weights, packed; [E, bytes] each."""

    w13: Tensor
    w2: Tensor
    hidden: int
    inner: int

    def tables(self, split: bool = False) -> tuple[ExpertTable, ExpertTable]:
        """The tables of both; with `split` the second half of the experts in a buffer of its own, as pulled."""
        half = len(self.w13) // 2
        w13, w2 = ([*w[:half], *w[half:].clone()] if split else w for w in (self.w13, self.w2))
        return scaled_expert_table(w13, 2 * self.inner, self.hidden), scaled_expert_table(w2, self.hidden, self.inner)


def packed(layer: Layer) -> Packed:
    """A layer's weights in e4m3."""
    w13, w2 = (pack_experts(quantise_experts(w)) for w in (layer.w13, layer.w2))
    return Packed(w13, w2, layer.w2.shape[1], layer.w2.shape[2])


def bench_scaled_layer(shape: LayerShape, layer: Layer, ceilings: Ceilings, repeats: int) -> dict[str, Any]:
    """Figures of one layer. Raises ArithmeticError when a result is wrong: a wrong kernel has no speed."""
    x, ids, weights = layer.x, layer.ids, layer.weights
    own = packed(layer)
    tables, split = own.tables(), own.tables(split=True)
    wide = expert_table(layer.w13), expert_table(layer.w2)
    config = layer_config(layer, tables)
    wide_config = layer_config(layer, wide)
    result = expert_mlp(x[0], ids, weights, *tables, config)
    error = checked_error(result, layer, tables)
    runs: dict[str, Run] = {
        "ours": lambda i: expert_mlp(x[i], ids, weights, *tables, config),
        "ours_two_buffers": lambda i: expert_mlp(x[i], ids, weights, *split, config),
        "ours_bf16": lambda i: expert_mlp(x[i], ids, weights, *wide, wide_config),
    }
    times = time_runs(runs, repeats, len(x))
    limit = ceilings.limit_us(shape.flops, shape.moved_bytes(E4M3.itemsize, x[0].element_size()))
    some = slice(0, min(CHECKED_TOKENS, len(ids)))
    return {
        **shape._asdict(),
        "limit_us": limit,
        **{name: figures(timing, shape.flops, limit) for name, timing in times.items()},
        "time_over_ours": {
            name: timing.median_us / times["ours"].median_us for name, timing in times.items() if name != "ours"
        },
        "relative_error": error,
        "error_of_unquantised": relative_error(result[some], exact_layer(layer, some)),
        "buffers_bit_equal": torch.equal(result, expert_mlp(x[0], ids, weights, *split, config)),
        "config": {"up": asdict(config.up), "down": asdict(config.down)},
        "parts": bench_parts(shape, layer, ceilings, repeats),
    }


def bench_parts(shape: LayerShape, layer: Layer, ceilings: Ceilings, repeats: int) -> dict[str, Any]:
    """The quantisation of a layer's tokens and of its rows between the GEMMs, beside torch's own operations."""
    tokens = layer.x[0]
    rows = tokens.new_empty(shape.tokens * shape.top_k, shape.inner).normal_()
    runs: dict[str, Run] = {
        "quantise_tokens": lambda _: quantise_rows(tokens),
        "quantise_tokens_torch": lambda _: quantise(tokens),
        "quantise_rows": lambda _: quantise_rows(rows),
        "quantise_rows_torch": lambda _: quantise(rows),
    }
    moved = {"tokens": tokens.numel(), "rows": rows.numel()}
    bytes_of = {name: moved[name.split("_")[1]] * (tokens.element_size() + E4M3.itemsize) for name in runs}
    return timed_parts(runs, bytes_of, ceilings, repeats)


def checked_error(result: Tensor, layer: Layer, tables: tuple[ExpertTable, ExpertTable]) -> float:
    """The relative error of some tokens against float64. Raises ArithmeticError when it is out of bounds."""
    some = slice(0, min(CHECKED_TOKENS, len(layer.ids)))
    experts = (quantised_experts(table) for table in tables)
    exact = scaled_grouped_mlp(layer.x[0][some], layer.ids[some], layer.weights[some], *experts)
    error = relative_error(result[some], exact)
    if not error <= LARGEST_ERROR:
        raise ArithmeticError(f"the expert layer is off by {error:.2e} (relative); at most {LARGEST_ERROR} is right")
    return error
