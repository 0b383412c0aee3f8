"""Rows of tokens that only some ranks have an expert for, in plain torch: what the kernels of masked_rows.py do.

Rows that a mask leaves out are undefined, and may be NaN: nothing is computed from them, not even times zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def visited_ranks(ids: Tensor, owner_of_expert: Tensor, ranks: int) -> Tensor:
    """[N, T] bool: whether token t has an expert on rank r, for ids [T, k] and owners [E] int32.

    An id outside 0 .. E - 1 counts for nothing.
    """
    real = (ids >= 0) & (ids < len(owner_of_expert))
    owners = torch.where(real, owner_of_expert[torch.where(real, ids, 0).long()], -1)
    every = torch.arange(ranks, device=ids.device)
    return (owners[None] == every[:, None, None]).any(2)


def put_rows(rows: Tensor, wanted: Tensor, first: int, target: Tensor) -> None:
    """target[i] becomes byte first + i of rows [R, ...] where `wanted` [R] bool has its row; the rest stays as it is.

    target is [n] uint8; rows are contiguous.
    """
    check_put(rows, wanted, first, target)
    if len(target):
        flat = rows.reshape(-1).view(torch.uint8)[first : first + len(target)]
        chosen = _of_each(wanted, rows.nbytes // len(rows), first, len(target))
        target.copy_(torch.where(chosen, flat, target))


def add_rows(parts: Sequence[Tensor], given: Tensor, columns: int, first: int, out: Tensor) -> None:
    """out[i] = sum over r of parts[r][i] where given[r] has its row, in the order of r, in fp32 and rounded once.

    Parts and out are [n]: elements first to first + n of rows [R, columns]; given is [N, R] bool.
    """
    check_add(parts, given, columns, first, out)
    counted = [
        torch.where(_of_each(mask, columns, first, len(out)), part.float(), 0.0)
        for part, mask in zip(parts, given, strict=True)
    ]
    total = counted[0]  # not zero plus it: the sum of two -0.0 is -0.0
    for each in counted[1:]:
        total = total + each
    out.copy_(total)


def check_put(rows: Tensor, wanted: Tensor, first: int, target: Tensor) -> None:
    """Raises ValueError for what `put_rows` cannot take."""
    if wanted.dtype != torch.bool or wanted.shape != rows.shape[:1] or not wanted.is_contiguous():
        raise ValueError(
            f"the mask is {list(wanted.shape)} of {wanted.dtype}: one contiguous torch.bool for each of "
            f"{len(rows)} rows is needed"
        )
    if not rows.is_contiguous() or first < 0 or first + target.nbytes > rows.nbytes:
        raise ValueError(
            f"bytes {first} to {first + target.nbytes} of rows {list(rows.shape)}, strides {rows.stride()}: "
            f"contiguous rows with as many bytes are needed, and there are {rows.nbytes}"
        )
    if target.dtype != torch.uint8 or target.dim() != 1:
        raise ValueError(f"the target is {list(target.shape)} of {target.dtype}: [n] of torch.uint8 is needed")


def check_add(parts: Sequence[Tensor], given: Tensor, columns: int, first: int, out: Tensor) -> None:
    """Raises ValueError for what `add_rows` cannot take."""
    if given.dtype != torch.bool or given.dim() != 2 or len(given) != len(parts) or len(parts) < 2:
        raise ValueError(
            f"the mask is {list(given.shape)} of {given.dtype} for {len(parts)} parts: [N, R] of torch.bool for N "
            "parts, two or more, is needed"
        )
    if first < 0 or first + len(out) > given.shape[1] * columns or {part.shape for part in parts} != {out.shape}:
        raise ValueError(
            f"elements {first} to {first + len(out)} of {given.shape[1]} rows of {columns}, in parts "
            f"{[list(part.shape) for part in parts]}: as many in each part are needed, and no more than there are"
        )


def _of_each(mask: Tensor, width: int, first: int, count: int) -> Tensor:
    """[count]: of each element from `first` on whether its row, `width` of them, is in the mask."""
    element = torch.arange(first, first + count, device=mask.device)
    return mask[element // width]
