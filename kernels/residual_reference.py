"""What lies between a decoder layer's blocks, in plain torch: what residual.py's kernels do, one operation each."""

from __future__ import annotations

import torch
from dwdp_kernels.grouped_mlp import weighted_sum
from torch import Tensor

TYPES = (torch.bfloat16, torch.float16, torch.float32)


def norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """[T, H]: x / rms(x) * weight over each row of x [T, H], in fp32, rounded once to x's type. weight is [H]."""
    check_norm(x, weight)
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps) * weight.float()).to(x.dtype)


def add_norm(before: Tensor, added: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The sum of before and added [T, H], and the norm of that sum as it is rounded."""
    check_add(before, added)
    total = before + added
    return total, norm(total, weight, eps)


def combine(
    rows: Tensor, row_of_visit: Tensor, weights: Tensor, shared: Tensor | None = None, before: Tensor | None = None
) -> Tensor:
    """[T, H]: before + (sum over j of weights[t, j] * rows[row_of_visit[t, j]] + shared), of what is given.

    rows is [R, H]; row_of_visit (int32, -1 for none) and weights are [T, k]; shared and before are [T, H].
    """
    check_combine(rows, row_of_visit, weights, shared, before)
    padded = torch.cat([rows, rows.new_zeros(1, rows.shape[1])])
    total = weighted_sum(padded[row_of_visit.long()], weights.masked_fill(row_of_visit < 0, 0))
    if shared is not None:
        total = total + shared
    return total if before is None else before + total


def combine_norm(
    rows: Tensor,
    row_of_visit: Tensor,
    weights: Tensor,
    norm_weight: Tensor,
    eps: float,
    shared: Tensor | None = None,
    before: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """What `combine` gives, and its norm."""
    total = combine(rows, row_of_visit, weights, shared, before)
    return total, norm(total, norm_weight, eps)


def check_norm(x: Tensor, weight: Tensor) -> None:
    """Raises ValueError for what `norm` cannot take."""
    if x.dim() != 2 or weight.shape != x.shape[1:]:
        raise ValueError(f"x is {list(x.shape)} and the norm's weight {list(weight.shape)}: [T, H] and [H] are needed")
    _check_alike("x", x, {"the norm's weight": weight})


def check_add(before: Tensor, added: Tensor) -> None:
    """Raises ValueError for what `add_norm` cannot add."""
    if before.shape != added.shape:
        raise ValueError(f"before is {list(before.shape)} and added {list(added.shape)}: [T, H] of both is needed")
    _check_alike("before", before, {"added": added})


def check_combine(
    rows: Tensor, row_of_visit: Tensor, weights: Tensor, shared: Tensor | None, before: Tensor | None
) -> None:
    """Raises ValueError for what `combine` cannot take."""
    if rows.dim() != 2 or row_of_visit.dim() != 2 or row_of_visit.shape != weights.shape:
        raise ValueError(
            f"rows are {list(rows.shape)}, row_of_visit {list(row_of_visit.shape)} and weights {list(weights.shape)}: "
            "[R, H], [T, k] and [T, k] are needed"
        )
    if row_of_visit.dtype != torch.int32:
        raise ValueError(f"row_of_visit is {row_of_visit.dtype}: torch.int32, -1 for none, is needed")
    added = {name: each for name, each in (("shared", shared), ("before", before)) if each is not None}
    size = len(row_of_visit), rows.shape[1]
    for name, each in added.items():
        if each.shape != size:
            raise ValueError(f"{name} is {list(each.shape)}: [T, H] is needed, which is {list(size)} here")
    _check_alike("rows", rows, added)


def _check_alike(name: str, x: Tensor, others: dict[str, Tensor]) -> None:
    if x.dtype not in TYPES:
        raise ValueError(f"{name} has {x.dtype}: one of {', '.join(map(str, TYPES))} is needed")
    for other, each in others.items():
        if each.dtype != x.dtype or each.device != x.device:
            raise ValueError(
                f"{other} has {each.dtype} on {each.device}: {x.dtype} on {x.device} is needed, which {name} has"
            )
