"""The Triton kernel that quantises rows to e4m3."""

# mypy: allow-untyped-defs, allow-untyped-calls, allow-incomplete-defs, allow-untyped-decorators
# ruff: noqa: N803, SIM102
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def rounded_to_e4m3(x):
    """The e4m3 number next to each x of at most 448, ties to even, as fp32.

    Hopper and later have an instruction for this. On Ada Triton casts by way of fp16, cutting off, which makes ties of
    what is above them; its CPU interpreter rounds ties up and loses the carry, so that 127.9 becomes 64 (Triton 3.7.1).
    """
    exponent = tl.maximum((x.to(tl.int32, bitcast=True) >> 23) & 0xFF, 127 - 6)
    step = ((exponent - 3) << 23).to(tl.float32, bitcast=True)  # between neighbours: 2 ** (exponent - 3)
    shift = step * 12582912.0  # 1.5 * 2**23: what is added to it keeps whole steps
    return (x + shift) - shift


@triton.jit
def quantise_kernel(
    x, values, scales, end, K, least, factor, BLOCK: tl.constexpr, ROUND: tl.constexpr, UP_TO_END: tl.constexpr
):
    """values[r], scales[r]: x[r, :K] in e4m3, and what to multiply it with. One row for each program.

    `least` is what the largest magnitude counts for at least, `factor` 1 / 448. With ROUND the cast is left nothing
    to round. With UP_TO_END rows from `end` (one int32) on are left alone; without it is not read.
    """
    row = tl.program_id(0).to(tl.int64)
    if UP_TO_END:
        if row >= tl.load(end):
            return
    column = tl.arange(0, BLOCK)
    wide = tl.load(x + row * K + column, mask=column < K, other=0.0).to(tl.float32)
    scale = tl.maximum(tl.max(tl.abs(wide), 0), least) * factor
    scaled = wide * tl.div_rn(1.0, scale)
    if ROUND:
        scaled = rounded_to_e4m3(scaled)
    tl.store(values + row * K + column, scaled.to(values.dtype.element_ty), mask=column < K)
    tl.store(scales + row, scale)
