"""Random rows between a layer's blocks, and what separate operations give for them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

EPS = 1e-6


class ResidualCase(NamedTuple):
    """Some visits have no row: row_of_visit is -1 there, and the weight NaN."""

    rows: Tensor
    """[R, H]; those that no visit wants are NaN"""
    row_of_visit: Tensor
    weights: Tensor
    shared: Tensor
    before: Tensor
    norm_weight: Tensor


def residual_case(
    tokens: int,
    top_k: int,
    hidden: int,
    dtype: torch.dtype,
    left_out: float = 0.2,
    scale: float = 1.0,
    seed: int = 0,
    device: str = "cpu",
) -> ResidualCase:
    random = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return (scale * torch.randn(*size, generator=random)).to(device, dtype)

    nobody = torch.rand(tokens, top_k, generator=random) < left_out
    row_of_visit = torch.randperm(tokens * top_k, generator=random).int().view(tokens, top_k)
    rows = normal(tokens * top_k, hidden)
    rows[row_of_visit[nobody].long().to(device)] = torch.nan
    weights = torch.rand(tokens, top_k, generator=random).masked_fill(nobody, torch.nan)
    norm_weight = (1 + 0.1 * torch.randn(hidden, generator=random)).to(device, dtype)
    return ResidualCase(
        rows,
        row_of_visit.masked_fill(nobody, -1).to(device),
        weights.to(device, dtype),
        normal(tokens, hidden),
        normal(tokens, hidden),
        norm_weight,
    )


def largest_error(found: Tensor, exact: Tensor) -> float:
    """The largest relative error of any element, of what is not small by chance."""
    exact = exact.double()
    return float(((found.double() - exact).abs() / exact.abs().clamp(min=1e-2)).max()) if len(exact) else 0.0


def exact_norm(x: Tensor, weight: Tensor) -> Tensor:
    wide = x.double()
    return wide / (wide.square().mean(-1, keepdim=True) + EPS).sqrt() * weight.double()
