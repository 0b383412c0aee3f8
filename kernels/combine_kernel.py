"""The Triton kernel that brings expert rows back into the tokens' order and sums them."""

# mypy: allow-untyped-defs, allow-untyped-calls, allow-incomplete-defs, allow-untyped-decorators
# ruff: noqa: N803
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def combine_kernel(rows, row_of_visit, weights, out, H, TOP_K: tl.constexpr, BLOCK: tl.constexpr):
    """out[t] = sum over j of weights[t, j] * rows[row_of_visit[t, j]], in the order of j and in fp32.

    Each program writes BLOCK columns of one token: it gathers, so it needs no atomics and no fixed order of programs.
    """
    token = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for j in tl.static_range(TOP_K):
        row = tl.load(row_of_visit + token * TOP_K + j).to(tl.int64)
        weight = tl.load(weights + token * TOP_K + j).to(tl.float32)
        value = tl.load(rows + row * H + column, mask=(column < H) & (row >= 0), other=0.0)
        total += weight * value.to(tl.float32)
    tl.store(out + token * H + column, total.to(out.dtype.element_ty), mask=column < H)
