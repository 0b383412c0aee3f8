"""The routed experts of one MoE layer on the GPU: sort, two grouped GEMMs with SwiGLU between, weighted sum.

The fast counterpart of grouped_mlp.py, which is its reference. Deterministic, without host synchronisation and
usable inside a CUDA graph; the weights may lie in any number of buffers. With weights in e4m3 (scaled_experts.py)
x and the product of gate and up are quantised row by row on the way; all else stays in x's type.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from dwdp_kernels.e4m3 import Quantised
from dwdp_kernels.expert_table import ExpertTable
from dwdp_kernels.gemm_config import GemmConfig
from dwdp_kernels.grouped_gemm import Rows, config_for, multiply, problem_of
from dwdp_kernels.grouped_mlp import ExpertRows
from dwdp_kernels.launch import device_of
from dwdp_kernels.residual import combine
from dwdp_kernels.routing import route_visits, tiles_of
from torch import Tensor


class LayerConfig(NamedTuple):
    """The configurations of a layer's two GEMMs."""

    up: GemmConfig
    down: GemmConfig


def expert_mlp(
    x: Tensor | Quantised,
    ids: Tensor,
    weights: Tensor,
    w13: ExpertTable,
    w2: ExpertTable,
    config: LayerConfig | None = None,
) -> Tensor:
    """[T, H]: for each row of x [T, H] the sum over j of weights[t, j] * MLP_ids[t, j](x[t]).

    ids and weights are [T, k]; an id outside 0 .. E - 1 counts for nothing. w13[e] is [2I, H] (gate, then up),
    w2[e] is [H, I]. Sums are fp32; the product of gate and up, each expert's row and the result are rounded to x's
    type, or to that of `weights` if x comes quantised (quantise_rows), which saves doing it here. The terms of a token
    are added in the order of j. Raises ValueError for tensors that do not fit.
    """
    return combine(*visit_experts(x, ids, weights, w13, w2, config), weights)


def visit_experts(
    x: Tensor | Quantised,
    ids: Tensor,
    weights: Tensor,
    w13: ExpertTable,
    w2: ExpertTable,
    config: LayerConfig | None = None,
) -> ExpertRows:
    """MLP_ids[t, j](x[t]) for each visit: what `expert_mlp` then combines. Of `weights` shape and type are looked at.

    Raises ValueError for tensors that do not fit.
    """
    values, scales, dtype = (*x, weights.dtype) if isinstance(x, Quantised) else (x, None, x.dtype)
    _check(values, ids, weights, w13, w2)
    if not ids.numel():
        return ExpertRows(torch.empty(0, w2.rows, dtype=dtype, device=values.device), ids.int())
    routes = route_visits(ids, w13.experts)
    gathered = Rows(values, routes.offsets, routes.token_of_row, scales, dtype)
    if config is None:
        config = choose_layer_config(gathered, w13, w2)
    tiles = tiles_of(routes.offsets, gathered.total, config.up.block_m)
    inner = multiply(gathered, w13, "swiglu", config.up, tiles)
    return ExpertRows(multiply(Rows(inner, routes.offsets), w2, "product", config.down, tiles), routes.row_of_visit)


def choose_layer_config(gathered: Rows, w13: ExpertTable, w2: ExpertTable) -> LayerConfig:
    """The configurations of both GEMMs for rows gathered from x."""
    device = device_of(gathered.x)
    up = problem_of(gathered, w13, "swiglu")
    down = up._replace(kind="product", k=w2.columns, n=w2.rows)
    return LayerConfig(config_for(up, device), config_for(down, device))


def _check(x: Tensor, ids: Tensor, weights: Tensor, w13: ExpertTable, w2: ExpertTable) -> None:
    if ids.dim() != 2 or ids.shape != weights.shape or len(ids) != len(x):
        raise ValueError(
            f"ids are {list(ids.shape)} and weights {list(weights.shape)}: both [T, k] are needed for T = {len(x)}"
        )
    if w13.experts != w2.experts or w13.rows != 2 * w2.columns or w13.columns != w2.rows:
        raise ValueError(
            f"{w13.experts} w13 are [{w13.rows}, {w13.columns}] and {w2.experts} w2 [{w2.rows}, {w2.columns}]: "
            "[2I, H] and [H, I] are needed, one of each per expert"
        )
