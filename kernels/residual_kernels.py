"""The Triton kernels between a decoder layer's blocks: sums of expert rows, residual additions and RMSNorm.

A row that is added up and normed stays in registers in between. All are launched without contraction of a product and
a sum to one rounding (residual.py), so that what is computed is what is written here, in each kernel alike.
"""

# mypy: allow-untyped-defs, allow-untyped-calls, allow-incomplete-defs, allow-untyped-decorators
# ruff: noqa: N803
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _wide(x, place, inside):
    """x[place] in fp32, zero outside."""
    return tl.load(x + place, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def _rounded(wide, like):
    """What is left of fp32 numbers in the type that `like` points to, as fp32."""
    return wide.to(like.dtype.element_ty).to(tl.float32)


@triton.jit
def _store_normed(row, weight, eps, out, place, column, H: tl.constexpr):
    """out[place] = row / rms(row) * weight, rounded once, of one whole row in fp32 that is zero from column H on."""
    inside = column < H
    mean = tl.div_rn(tl.sum(row * row, 0), H * 1.0)
    normed = row * tl.rsqrt(mean + eps) * _wide(weight, column, inside)
    tl.store(out + place, normed.to(out.dtype.element_ty), mask=inside)


@triton.jit
def norm_kernel(x, weight, eps, out, H: tl.constexpr, BLOCK: tl.constexpr):
    """out[t] = the norm of x[t]. One row for each program."""
    column = tl.arange(0, BLOCK)
    place = tl.program_id(0).to(tl.int64) * H + column
    _store_normed(_wide(x, place, column < H), weight, eps, out, place, column, H)


@triton.jit
def add_norm_kernel(before, added, weight, eps, total, normed, H: tl.constexpr, BLOCK: tl.constexpr):
    """total[t] = before[t] + added[t], and normed[t] = the norm of what total[t] was rounded to. One row for each
    program."""
    column = tl.arange(0, BLOCK)
    place = tl.program_id(0).to(tl.int64) * H + column
    inside = column < H
    row = _rounded(_wide(before, place, inside) + _wide(added, place, inside), total)
    tl.store(total + place, row.to(total.dtype.element_ty), mask=inside)
    _store_normed(row, weight, eps, normed, place, column, H)


@triton.jit
def combine_kernel(
    rows,
    row_of_visit,
    weights,
    shared,
    before,
    norm_weight,
    eps,
    out,
    normed,
    H: tl.constexpr,
    TOP_K: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """out[t] = before[t] + (sum over j of weights[t, j] * rows[row_of_visit[t, j]] + shared[t]), rounded after the sum
    and after each addition; normed[t] = the norm of out[t].

    The sum is in the order of j and in fp32, and a row below 0 counts for nothing. `shared`, `before` and the norm's
    weight may be None, which leaves them out. Each program writes BLOCK columns of one token, with a norm all: it
    gathers, so it needs no atomics and no fixed order of programs.
    """
    token = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < H
    place = token * H + column
    total = tl.zeros((BLOCK,), tl.float32)
    for j in tl.static_range(TOP_K):
        row = tl.load(row_of_visit + token * TOP_K + j).to(tl.int64)
        weight = tl.load(weights + token * TOP_K + j).to(tl.float32)
        # both are loaded at once: a weight waits for no row
        weight = tl.where(row >= 0, weight, 0.0)
        total = tl.fma(weight, _wide(rows, row * H + column, inside & (row >= 0)), total)
    total = _rounded(total, out)
    if shared is not None:
        total = _rounded(total + _wide(shared, place, inside), out)
    if before is not None:
        total = _rounded(total + _wide(before, place, inside), out)
    tl.store(out + place, total.to(out.dtype.element_ty), mask=inside)
    if norm_weight is not None:
        _store_normed(total, norm_weight, eps, normed, place, column, H)
