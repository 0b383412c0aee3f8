"""The Triton kernel that turns queries and keys by their positions, in place."""

# mypy: allow-untyped-defs, allow-untyped-calls, allow-incomplete-defs, allow-untyped-decorators
# ruff: noqa: N803
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def rotary_kernel(x, cos, sin, heads, row_stride, HALF: tl.constexpr, PADDED: tl.constexpr, HEADS: tl.constexpr):
    """Element i and element i + HALF of each head of x [T, heads, 2 HALF] become a vector turned by angle i.

    Each program turns HEADS heads of one token. Tokens lie row_stride elements apart; cos and sin are [T, HALF] fp32.
    """
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * HEADS + tl.arange(0, HEADS)
    column = tl.arange(0, PADDED)
    angle_cos = tl.load(cos + token * HALF + column, mask=column < HALF, other=0.0)[None, :]
    angle_sin = tl.load(sin + token * HALF + column, mask=column < HALF, other=0.0)[None, :]
    place = token * row_stride + head[:, None] * (2 * HALF) + column[None, :]
    mask = (head[:, None] < heads) & (column[None, :] < HALF)
    first = tl.load(x + place, mask=mask, other=0.0).to(tl.float32)
    second = tl.load(x + place + HALF, mask=mask, other=0.0).to(tl.float32)
    tl.store(x + place, (first * angle_cos - second * angle_sin).to(x.dtype.element_ty), mask=mask)
    tl.store(x + place + HALF, (second * angle_cos + first * angle_sin).to(x.dtype.element_ty), mask=mask)
