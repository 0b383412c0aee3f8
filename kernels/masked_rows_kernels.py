"""The Triton kernels that find, write and add up the rows of tokens that only some ranks have an expert for."""

# mypy: allow-untyped-defs, allow-untyped-calls, allow-incomplete-defs, allow-untyped-decorators
# ruff: noqa: N803
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["tokens"])
def visited_kernel(
    ids, owners, visited, tokens, experts, ranks, TOP_K: tl.constexpr, PADDED: tl.constexpr, BLOCK: tl.constexpr
):
    """visited[r, t]: whether any of the TOP_K experts of token t belongs to rank r. BLOCK tokens a program."""
    token = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    place = tl.arange(0, PADDED)
    inside = (token < tokens)[:, None] & (place < TOP_K)[None, :]
    expert = tl.load(ids + token[:, None] * TOP_K + place[None, :], mask=inside, other=-1)
    real = inside & (expert >= 0) & (expert < experts)
    owner = tl.load(owners + expert, mask=real, other=-1)
    row = visited + token
    for rank in range(ranks):
        hits = tl.max((owner == rank).to(tl.int32), 1)
        tl.store(row, hits > 0, mask=token < tokens)
        row += tokens


@triton.jit(do_not_specialize_on_alignment=["wanted"])
def put_kernel(
    rows, wanted, target, first, end, columns, ALIGNED: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    """Elements first to end of rows [R, columns] go to the address `target` and on, those whose row is wanted.

    Each program has ROWS rows in flight, BLOCK columns of each: a store into a peer's memory takes its time, and many
    have to be on their way. The mask is one bit for a whole row, so that 16 bytes go at once; ALIGNED tells that the
    target begins at a multiple of these, which Triton does not conclude for a number that becomes a pointer.
    """
    row = first // columns + tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    element = row[:, None] * columns + column[None, :]
    sent = tl.load(wanted + row, mask=row * columns < end, other=0).to(tl.int1)
    inside = sent[:, None] & (column < columns)[None, :] & (element >= first) & (element < end)
    begin = target.to(tl.pointer_type(rows.dtype.element_ty))
    if ALIGNED:
        begin = tl.multiple_of(begin, 16)
    tl.store(begin + (element - first), tl.load(rows + element, mask=inside), mask=inside)


@triton.jit(do_not_specialize_on_alignment=["total_given", "part_given"])
def add_kernel(
    total,
    part,
    total_given,
    part_given,
    out,
    first,
    end,
    columns,
    WHOLE_TOTAL: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """out = total + part, of each the rows that are given, in fp32: elements first to end of rows [R, columns].

    With WHOLE_TOTAL all rows of `total` count. What is not given is not read.
    """
    row = first // columns + tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    element = row[:, None] * columns + column[None, :]
    place = element - first
    inside = (column < columns)[None, :] & (element >= first) & (element < end)
    there = row * columns < end
    one = inside
    if not WHOLE_TOTAL:
        one = inside & tl.load(total_given + row, mask=there, other=0).to(tl.int1)[:, None]
    other = inside & tl.load(part_given + row, mask=there, other=0).to(tl.int1)[:, None]
    added = tl.load(total + place, mask=one, other=0.0).to(tl.float32)
    added += tl.load(part + place, mask=other, other=0.0).to(tl.float32)
    tl.store(out + place, added.to(out.dtype.element_ty), mask=inside)
