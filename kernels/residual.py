"""What lies between a decoder layer's blocks, each in one pass over memory: the weighted sum of expert rows, residual
additions, and RMSNorm of what comes out.

residual_reference.py is the reference. Sums are rounded where separate torch operations would round them, so that they
have the same bits. A norm has the same bits whichever function made it: all compute it by the same code, in blocks and
warps that follow from H alone, and lay a row out over threads in the same way, as what they read is always aligned.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from dwdp_kernels.launch import device_of, launch
from dwdp_kernels.residual_kernels import add_norm_kernel, combine_kernel, norm_kernel
from dwdp_kernels.residual_reference import check_add, check_combine, check_norm
from torch import Tensor

LARGEST_BLOCK = 1024
"""Columns that one program sums where no norm needs the whole row: 8 a thread, which are 16 bytes of a 16-bit type."""
COLUMNS_PER_WARP = 512
"""Of a row that is normed: 16 a thread."""
MOST_WARPS = 16
ALIGNMENT_BYTES = 16
"""What a thread loads at once. Triton lays a row out over threads by how its address is aligned."""


def norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """[T, H]: x / rms(x) * weight over each row of x [T, H], in fp32, rounded once to x's type. weight is [H].

    Raises ValueError for tensors that do not fit.
    """
    check_norm(x, weight)
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if out.numel():
        _launch_on_rows(norm_kernel, out, _aligned(x), _aligned(weight), eps, out)
    return out


def add_norm(before: Tensor, added: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The sum of before and added [T, H], and the norm of that sum as it is rounded.

    Raises ValueError for tensors that do not fit.
    """
    check_add(before, added)
    check_norm(before, weight)
    total, normed = (torch.empty(before.shape, dtype=before.dtype, device=before.device) for _ in range(2))
    if total.numel():
        parts = _aligned(before), _aligned(added), _aligned(weight)
        _launch_on_rows(add_norm_kernel, total, *parts, eps, total, normed)
    return total, normed


def combine(
    rows: Tensor, row_of_visit: Tensor, weights: Tensor, shared: Tensor | None = None, before: Tensor | None = None
) -> Tensor:
    """[T, H]: before + (sum over j of weights[t, j] * rows[row_of_visit[t, j]] + shared), of what is given.

    rows is [R, H]; row_of_visit (int32, -1 for none) and weights are [T, k]; shared and before are [T, H]. The sum is
    in the order of j and in fp32; it and what is added to it are rounded to the type of the rows, one after the other.
    Raises ValueError for tensors that do not fit.
    """
    check_combine(rows, row_of_visit, weights, shared, before)
    tokens, top_k = row_of_visit.shape
    hidden = rows.shape[1]
    out = torch.empty(tokens, hidden, dtype=rows.dtype, device=rows.device)
    if out.numel():
        device_of(rows)
        block = min(LARGEST_BLOCK, _padded(hidden))
        launch(
            combine_kernel,
            (tokens, triton.cdiv(hidden, block)),
            rows,
            *_summands(rows, row_of_visit, weights, shared, before),
            None,
            0.0,
            out,
            None,
            H=hidden,
            TOP_K=top_k,
            BLOCK=block,
            enable_fp_fusion=False,
        )
    return out


def combine_norm(
    rows: Tensor,
    row_of_visit: Tensor,
    weights: Tensor,
    norm_weight: Tensor,
    eps: float,
    shared: Tensor | None = None,
    before: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """What `combine` gives, and its norm. norm_weight is [H].

    Raises ValueError for tensors that do not fit.
    """
    check_combine(rows, row_of_visit, weights, shared, before)
    check_norm(rows, norm_weight)
    size = len(row_of_visit), rows.shape[1]
    total, normed = (torch.empty(size, dtype=rows.dtype, device=rows.device) for _ in range(2))
    if total.numel():
        summands = _summands(rows, row_of_visit, weights, shared, before)
        top_k = row_of_visit.shape[1]
        _launch_on_rows(combine_kernel, total, *summands, _aligned(norm_weight), eps, total, normed, TOP_K=top_k)
    return total, normed


def warps_for(hidden: int) -> int:
    """With how many warps a row of so many columns is normed."""
    return min(max(1, _padded(hidden) // COLUMNS_PER_WARP), MOST_WARPS)


def _launch_on_rows(kernel: Any, out: Tensor, *arguments: object, **options: object) -> None:
    """Start a kernel that has a whole row of out [T, H] in each program."""
    device_of(out)
    tokens, hidden = out.shape
    sizes = {"H": hidden, "BLOCK": _padded(hidden), "num_warps": warps_for(hidden)}
    launch(kernel, (tokens,), out, *arguments, **sizes, **options, enable_fp_fusion=False)


def _summands(
    rows: Tensor, row_of_visit: Tensor, weights: Tensor, shared: Tensor | None, before: Tensor | None
) -> tuple[Tensor | None, ...]:
    """What the kernel sums, as it reads it."""
    added = (None if each is None else _aligned(each) for each in (shared, before))
    return _aligned(rows), row_of_visit.contiguous(), weights.contiguous(), *added


def _padded(hidden: int) -> int:
    return int(triton.next_power_of_2(hidden))


def _aligned(x: Tensor) -> Tensor:
    """x itself where it is contiguous and well aligned, otherwise a copy that is."""
    if x.is_contiguous() and x.data_ptr() % ALIGNMENT_BYTES == 0:
        return x
    return x.clone(memory_format=torch.contiguous_format)
