"""The Triton kernels of routing: visits sorted by expert, stable, without atomics, and the GEMM's tiles.

A counting sort. Each program counts the experts of a block of visits; each then starts where the blocks before
it end; each visit goes to its block's start plus the equal ones before it in the block.
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


@triton.jit(do_not_specialize=["visits"])
def count_kernel(ids, counts, visits, experts, BLOCK: tl.constexpr, PADDED: tl.constexpr):
    """counts[b, e]: how many of block b's visits go to expert e."""
    block = tl.program_id(0)
    expert, real = experts_of(ids, visits, experts, block * BLOCK + tl.arange(0, BLOCK))
    found = tl.histogram(tl.where(real, expert, 0), PADDED, mask=real)
    e = tl.arange(0, PADDED)
    tl.store(counts + block * experts + e, found, mask=e < experts)


@triton.jit(do_not_specialize=["blocks"])
def starts_kernel(counts, starts, offsets, blocks, experts, PADDED: tl.constexpr, AT_ONCE: tl.constexpr):
    """starts[b, e]: the sorted place of the first visit of block b to expert e. offsets[e]: of any block."""
    block = tl.program_id(0)
    e = tl.arange(0, PADDED)
    before = tl.zeros((PADDED,), tl.int32)
    total = tl.zeros((PADDED,), tl.int32)
    for first in range(0, blocks, AT_ONCE):
        other = first + tl.arange(0, AT_ONCE)
        there = (other < blocks)[:, None] & (e < experts)[None, :]
        count = tl.load(counts + other[:, None] * experts + e[None, :], mask=there, other=0)
        total += tl.sum(count, 0)
        before += tl.sum(tl.where((other < block)[:, None], count, 0), 0)
    ends = tl.cumsum(total, 0)
    tl.store(starts + block * experts + e, ends - total + before, mask=e < experts)
    if block == 0:
        tl.store(offsets, 0)
        tl.store(offsets + 1 + e, ends, mask=e < experts)


@triton.jit(do_not_specialize=["visits"])
def place_kernel(
    ids,
    starts,
    token_of_row,
    row_of_visit,
    visits,
    experts,
    TOP_K: tl.constexpr,
    BLOCK: tl.constexpr,
    AT_ONCE: tl.constexpr,
):
    """The row that each visit gets (-1 for a visit to no expert), and the token that each row belongs to."""
    block = tl.program_id(0)
    place = tl.arange(0, BLOCK)
    visit = block * BLOCK + place
    expert, real = experts_of(ids, visits, experts, visit)
    rank = tl.zeros((BLOCK,), tl.int32)
    for first in range(0, BLOCK, AT_ONCE):
        other_place = first + tl.arange(0, AT_ONCE)
        other, _ = experts_of(ids, visits, experts, block * BLOCK + other_place)
        equal_before = (other[None, :] == expert[:, None]) & (other_place[None, :] < place[:, None])
        rank += tl.sum(equal_before.to(tl.int32), 1)
    row = tl.load(starts + block * experts + expert, mask=real, other=0) + rank
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
