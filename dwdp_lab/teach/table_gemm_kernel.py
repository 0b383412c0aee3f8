"""The right answer to the exercise on the pointer-table GEMM: a Triton kernel, as short as it can be.

The lab's own (kernels/grouped_gemm_kernel.py) moves tiles by TMA, orders them for L2 and fuses SwiGLU.
"""

# triton.jit compiles the function from its source: constexpr is the only annotation it knows
# mypy: allow-untyped-defs, allow-untyped-calls, allow-incomplete-defs, allow-untyped-decorators
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def table_gemm(
    x,
    x_stride,
    table,
    out,
    offsets,
    tile_expert,
    tile_row,
    k,
    n,
    block_m: tl.constexpr,
    block_n: tl.constexpr,
    block_k: tl.constexpr,
):
    tile = tl.program_id(0)
    rows = tl.load(tile_row + tile) + tl.arange(0, block_m)
    columns = tl.program_id(1) * block_n + tl.arange(0, block_n)
    total = tl.zeros((block_m, block_n), tl.float32)
    expert = tl.load(tile_expert + tile)
    mine = rows < tl.load(offsets + expert + 1)  # the last tile of an expert reaches into the next one's rows
    weight = tl.load(table + expert).to(tl.pointer_type(x.dtype.element_ty))  # in whichever buffer
    x_rows = x + rows.to(tl.int64)[:, None] * x_stride
    w_rows = weight + columns.to(tl.int64)[:, None] * k
    for start in range(0, k, block_k):
        inner = start + tl.arange(0, block_k)[None, :]
        a = tl.load(x_rows + inner, mask=mine[:, None] & (inner < k), other=0.0)
        w = tl.load(w_rows + inner, mask=(columns < n)[:, None] & (inner < k), other=0.0)
        total = tl.dot(a, w.T, total)
    places = out + rows.to(tl.int64)[:, None] * n + columns[None, :]
    tl.store(places, total.to(out.dtype.element_ty), mask=mine[:, None] & (columns < n)[None, :])
