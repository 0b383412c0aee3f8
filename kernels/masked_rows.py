"""Rows of tokens that only some ranks have an expert for: which these are, written into a peer's memory, and added up.

Nothing here makes the host wait: how many rows there are is known on the device alone. masked_rows_reference.py is the
reference. Copy engines would take a command for each run of rows, and the host would have to know these.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
from dwdp_kernels.launch import device_of, launch
from dwdp_kernels.masked_rows_kernels import add_kernel, put_kernel, visited_kernel
from dwdp_kernels.masked_rows_reference import check_add, check_put
from torch import Tensor

TOKENS = 64
"""Whose ranks one program finds."""
ROWS = 4
LARGEST_BLOCK = 1024
"""Columns of a row that one program moves: of words of 4 bytes 16 KiB in all, 8 times 16 bytes a thread."""
WORDS = (torch.int32, torch.int16, torch.uint8)
"""What rows are moved as: the largest that divides them."""


def visited_ranks(ids: Tensor, owner_of_expert: Tensor, ranks: int) -> Tensor:
    """[N, T] bool: whether token t has an expert on rank r, for ids [T, k] (int32 or int64) and owners [E] int32.

    An id outside 0 .. E - 1 counts for nothing.
    """
    tokens, top_k = ids.shape
    device_of(ids)
    visited = torch.empty(ranks, tokens, dtype=torch.bool, device=ids.device)
    if visited.numel():
        launch(
            visited_kernel,
            (triton.cdiv(tokens, TOKENS),),
            ids,
            ids.contiguous(),
            owner_of_expert,
            visited,
            tokens,
            len(owner_of_expert),
            ranks,
            TOP_K=top_k,
            PADDED=triton.next_power_of_2(top_k),
            BLOCK=TOKENS,
        )
    return visited


def put_rows(rows: Tensor, wanted: Tensor, first: int, target: Tensor) -> None:
    """target[i] becomes byte first + i of rows [R, ...] where `wanted` [R] bool has its row; the rest stays as it is.

    target is [n] uint8 and may be a peer's memory that is mapped here; `first`, n and both addresses begin with whole
    words of the rows (of 4 bytes, where these divide a row). Raises ValueError for tensors that do not fit.
    """
    check_put(rows, wanted, first, target)
    if not len(target):
        return
    device_of(rows)
    word = next(each for each in WORDS if not rows.nbytes // len(rows) % each.itemsize)
    if (first | len(target) | target.data_ptr() | rows.data_ptr()) % word.itemsize:
        raise ValueError(f"bytes {first} to {first + len(target)} are not whole words of {word.itemsize} bytes")
    words = rows.view(-1).view(torch.uint8).view(word)
    columns, begin, end = len(words) // len(rows), first // word.itemsize, (first + len(target)) // word.itemsize
    block = _block(columns)
    # the target goes as a number: what the driver tells of a peer's memory is not what a tensor's is
    launch(
        put_kernel,
        _grid(begin, end, columns, block),
        rows,
        words,
        wanted,
        target.data_ptr(),
        begin,
        end,
        columns,
        ALIGNED=target.data_ptr() % 16 == 0,
        ROWS=ROWS,
        BLOCK=block,
    )


def add_rows(parts: Sequence[Tensor], given: Tensor, columns: int, first: int, out: Tensor) -> None:
    """out[i] = sum over r of parts[r][i] where given[r] has its row, in the order of r, in fp32 and rounded once.

    Parts and out are [n]: elements first to first + n of rows [R, columns]; given is [N, R] bool. Raises ValueError for
    tensors that do not fit.
    """
    check_add(parts, given, columns, first, out)
    if not len(out):
        return
    device_of(out)
    block, end = _block(columns), first + len(out)
    total = parts[0]
    for number, part in enumerate(parts[1:], 1):
        into = out if number == len(parts) - 1 else torch.empty(len(out), dtype=torch.float32, device=out.device)
        launch(
            add_kernel,
            _grid(first, end, columns, block),
            out,
            total,
            part,
            given[0].contiguous(),
            given[number].contiguous(),
            into,
            first,
            end,
            columns,
            WHOLE_TOTAL=number > 1,
            ROWS=ROWS,
            BLOCK=block,
        )
        total = into


def _block(columns: int) -> int:
    return min(LARGEST_BLOCK, int(triton.next_power_of_2(columns)))


def _grid(first: int, end: int, columns: int, block: int) -> tuple[int, int]:
    """Programs for the rows that elements first to end lie in."""
    rows = (end - 1) // columns - first // columns + 1
    return triton.cdiv(rows, ROWS), triton.cdiv(columns, block)
