"""The arithmetic of an experts module: by this project's kernels on a GPU, in plain torch on a CPU."""

from __future__ import annotations

import torch
from dwdp_kernels.grouped_mlp import expert_product, grouped_mlp, sort_by_expert, weighted_sum
from torch import Tensor, nn

from dwdp_lab.model.hf.expert_source import ExpertWeights
from dwdp_lab.model.hf.experts_module import between, is_swiglu, weight_names


def routed_experts(module: nn.Module, x: Tensor, ids: Tensor, weights: Tensor, experts: ExpertWeights) -> Tensor:
    """[T, H] in x's type: the sum over j of weights[t, j] * MLP_ids[t, j](x[t]); ids and weights are [T, k].

    An id of E or more counts for nothing. Sums over j are fp32, rounded once.
    """
    wide, x = x, x.to(experts.w13[0].dtype)  # under autocast they may differ
    form = by_kernels if x.device.type == "cuda" else plainly
    return form(module, x, ids, weights, experts).to(wide.dtype)


def by_kernels(module: nn.Module, x: Tensor, ids: Tensor, weights: Tensor, experts: ExpertWeights) -> Tensor:
    """`routed_experts` by Triton kernels: one fused MLP for SwiGLU, else two grouped GEMMs with torch in between."""
    from dwdp_kernels.expert_mlp import expert_mlp
    from dwdp_kernels.grouped_gemm import Rows, multiply
    from dwdp_kernels.residual import combine
    from dwdp_kernels.routing import route_visits

    w13, w2 = experts.tables
    if is_swiglu(module):
        return expert_mlp(x, ids, weights, w13, w2)
    if not ids.numel():
        return torch.zeros_like(x)
    routes = route_visits(ids, len(experts.w13))
    every_row = torch.arange(ids.numel(), device=x.device)
    # rows behind the last offset belong to no expert, and nobody reads them
    expert_of_row = torch.searchsorted(routes.offsets[1:], every_row, right=True).clamp(max=len(experts.w13) - 1)
    first = multiply(Rows(x, routes.offsets, routes.token_of_row), w13, "product")
    inner = between(module, _biased(module, 0, first, expert_of_row))
    second = multiply(Rows(inner, routes.offsets), w2, "product")
    return combine(_biased(module, 1, second, expert_of_row), routes.row_of_visit, weights)


def plainly(module: nn.Module, x: Tensor, ids: Tensor, weights: Tensor, experts: ExpertWeights) -> Tensor:
    """`routed_experts` in plain torch, on any device."""
    total = len(experts.w13)
    nobody = ids >= total
    ids, weights = ids.clamp(max=total - 1), weights.masked_fill(nobody, 0.0)
    if is_swiglu(module):
        return grouped_mlp(x, ids, weights, experts.w13, experts.w2)
    order, offsets = sort_by_expert(ids, total)
    expert_of_row = ids.reshape(-1)[order]
    first = expert_product(x[order // ids.shape[1]], offsets, experts.w13)
    inner = between(module, _biased(module, 0, first, expert_of_row))
    second = expert_product(inner, offsets, experts.w2)
    rows = _biased(module, 1, second, expert_of_row)
    return weighted_sum(rows[order.argsort()].view(*ids.shape, rows.shape[1]), weights)


def _biased(module: nn.Module, product: int, rows: Tensor, expert_of_row: Tensor) -> Tensor:
    if not module.has_bias:
        return rows
    bias: Tensor = getattr(module, f"{weight_names(module)[product]}_bias")
    return rows + bias[expert_of_row]
