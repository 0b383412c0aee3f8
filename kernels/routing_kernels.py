"""The Triton kernels of routing: visits sorted by expert, stable, without atomics, and the GEMM's tiles.

A counting sort. Each program counts the experts of a small block of visits; per expert, each block starts where the
blocks before it end; each visit goes to its block's start plus the equal ones before it in the block. Blocks are so
small that a program's table of (visit, expert) or (visit, visit) pairs stays in registers: with 512 visits it did not,
and the sort took as long as a GEMM.
"""

# mypy: allow-untyped-defs, allow-untyped-calls, allow-incomplete-defs, allow-untyped-decorators
# ruff: noqa: N803
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def experts_of(ids, visits, experts, visit):
    """The experts of some visits, and whether they are any: an id outside 0 .. experts - 1 stands for none."""
    expert = tl.load(ids + visit, mask=visit < visits, other=-1).to(tl.int32)
    return expert, (expert >= 0) & (expert < experts)


@triton.jit(do_not_specialize=["visits", "blocks"])
def count_kernel(
    ids, counts, visits, blocks, experts, BLOCK: tl.constexpr, PADDED: tl.constexpr, AT_ONCE: tl.constexpr
):
    """counts[e, b]: how many of block b's visits go to expert e."""
    block = tl.program_id(0)
    expert, real = experts_of(ids, visits, experts, block * BLOCK + tl.arange(0, BLOCK))
    expert = tl.where(real, expert, -1)
    for first in range(0, PADDED, AT_ONCE):
        e = first + tl.arange(0, AT_ONCE)
        found = tl.sum((expert[:, None] == e[None, :]).to(tl.int32), 0)
        tl.store(counts + e * blocks + block, found, mask=e < experts)


@triton.jit(do_not_specialize=["blocks"])
def starts_kernel(counts, totals, blocks, AT_ONCE: tl.constexpr):
    """counts[e, b] becomes the number of visits to e in the blocks before b; totals[e]: in all blocks."""
    e = tl.program_id(0)
    before = tl.zeros((), tl.int32)
    for first in range(0, blocks, AT_ONCE):
        block = first + tl.arange(0, AT_ONCE)
        count = tl.load(counts + e * blocks + block, mask=block < blocks, other=0)
        tl.store(counts + e * blocks + block, before + tl.cumsum(count, 0) - count, mask=block < blocks)
        before += tl.sum(count, 0)
    tl.store(totals + e, before)


@triton.jit
def offsets_kernel(totals, offsets, experts, PADDED: tl.constexpr):
    """offsets[e]: the first row of expert e; offsets[experts]: the end of all."""
    e = tl.arange(0, PADDED)
    total = tl.load(totals + e, mask=e < experts, other=0)
    tl.store(offsets, 0)
    tl.store(offsets + 1 + e, tl.cumsum(total, 0), mask=e < experts)


@triton.jit(do_not_specialize=["visits", "blocks"])
def place_kernel(
    ids, before, offsets, token_of_row, row_of_visit, visits, blocks, experts, TOP_K: tl.constexpr, BLOCK: tl.constexpr
):
    """The row that each visit gets (-1 for a visit to no expert), and the token that each row belongs to."""
    block = tl.program_id(0)
    place = tl.arange(0, BLOCK)
    visit = block * BLOCK + place
    expert, real = experts_of(ids, visits, experts, visit)
    other, _ = experts_of(ids, visits, experts, visit)  # loaded again, so that it may lie along the other axis
    equal_before = (other[None, :] == expert[:, None]) & (place[None, :] < place[:, None])
    rank = tl.sum(equal_before.to(tl.int32), 1)
    start = tl.load(offsets + expert, mask=real, other=0) + tl.load(
        before + expert * blocks + block, mask=real, other=0
    )
    row = start + rank
    tl.store(row_of_visit + visit, tl.where(real, row, -1), mask=visit < visits)
    tl.store(token_of_row + row, visit // TOP_K, mask=real)


@triton.jit(do_not_specialize=["bound"])
def tiles_kernel(
    offsets,
    tile_expert,
    tile_row,
    tile_count,
    experts,
    bound,
    BLOCK_M: tl.constexpr,
    PADDED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The expert and the first row of each tile of BLOCK_M rows, in the rows' order, and how many tiles there are."""
    e = tl.arange(0, PADDED)
    start = tl.load(offsets + e, mask=e < experts, other=0)
    end = tl.load(offsets + 1 + e, mask=e < experts, other=0)
    tiles = tl.where(e < experts, tl.cdiv(end - start, BLOCK_M), 0)
    last = tl.cumsum(tiles, 0)
    tile = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    # the expert whose tiles are the first to end after this one
    expert = tl.sum(((last[None, :] <= tile[:, None]) & (e < experts)[None, :]).to(tl.int32), 1)
    own = e[None, :] == expert[:, None]
    row = tl.sum(tl.where(own, start[None, :] + (tile[:, None] - (last - tiles)[None, :]) * BLOCK_M, 0), 1)
    used = (expert < experts) & (tile < bound)
    tl.store(tile_expert + tile, expert, mask=used)
    tl.store(tile_row + tile, row, mask=used)
    if tl.program_id(0) == 0:
        tl.store(tile_count, tl.sum(tiles, 0))
