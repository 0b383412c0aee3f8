"""Visits sorted by expert, on the device: no host synchronisation, no atomics, usable inside a CUDA graph.

A visit is one token's use of one expert: T tokens times k. Row r of the sorted order belongs to expert e when
offsets[e] <= r < offsets[e + 1]; visits of one expert keep the order of their tokens, so results are the same
from run to run.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
from dwdp_kernels.grouped_mlp import sort_by_expert
from dwdp_kernels.launch import device_of, launch
from dwdp_kernels.routing_kernels import count_kernel, offsets_kernel, place_kernel, starts_kernel, tiles_kernel
from torch import Tensor

BLOCK = 128
"""Visits that one program sorts: it compares all pairs of them, in registers."""


class Routes(NamedTuple):
    """Where visits go, all int32 on the device."""

    token_of_row: Tensor
    """[T * k]: the token of each sorted row; undefined from offsets[E] on"""
    row_of_visit: Tensor
    """[T, k]: the sorted row of each visit, -1 for a visit to no expert"""
    offsets: Tensor
    """[E + 1]: the first row of each expert, and the end"""


class Tiles(NamedTuple):
    """Pieces of `height` rows or fewer, each of one expert, in the rows' order; all int32 on the device."""

    expert: Tensor
    """[bound]: the expert of each tile; undefined from the last used on"""
    row: Tensor
    """[bound]: the first row of each tile; undefined from the last used on"""
    used: Tensor
    """[1]: how many tiles there are"""
    height: int


def route_visits(ids: Tensor, experts: int, block: int = BLOCK) -> Routes:
    """The routes of ids [T, k] (int32 or int64). An id outside 0 .. experts - 1 stands for no expert."""
    tokens, top_k = ids.shape
    device_of(ids)
    ids = ids.contiguous()
    visits, blocks = ids.numel(), triton.cdiv(ids.numel(), block)
    offsets, token_of_row = _int32(ids, experts + 1), _int32(ids, visits)
    row_of_visit = _int32(ids, visits).view(tokens, top_k)
    if not visits:
        return Routes(token_of_row, row_of_visit, offsets.zero_())
    counts, totals = _int32(ids, experts * blocks), _int32(ids, experts)
    padded = padded_experts(experts)
    launch(
        count_kernel,
        (blocks,),
        ids,
        ids,
        counts,
        visits,
        blocks,
        experts,
        BLOCK=block,
        PADDED=padded,
        AT_ONCE=min(padded, 128),
    )
    at_once = min(int(triton.next_power_of_2(blocks)), 1024)
    launch(starts_kernel, (experts,), ids, counts, totals, blocks, AT_ONCE=at_once)
    launch(offsets_kernel, (1,), ids, totals, offsets, experts, PADDED=padded)
    launch(
        place_kernel,
        (blocks,),
        ids,
        ids,
        counts,
        offsets,
        token_of_row,
        row_of_visit,
        visits,
        blocks,
        experts,
        TOP_K=top_k,
        BLOCK=block,
    )
    return Routes(token_of_row, row_of_visit, offsets)


def tiles_of(offsets: Tensor, rows: int, height: int, block: int = 64) -> Tiles:
    """The tiles of rows that `offsets` [E + 1] (int32) assigns to experts. `rows` is offsets[E] or more.

    There are rows // height + E at most, however the rows are spread: sum of ceil(c / height).
    """
    experts = len(offsets) - 1
    bound = min(rows // height + experts, rows)
    tiles = Tiles(_int32(offsets, bound), _int32(offsets, bound), _int32(offsets, 1), height)
    launch(
        tiles_kernel,
        (max(1, triton.cdiv(bound, block)),),
        offsets,
        offsets,
        tiles.expert,
        tiles.row,
        tiles.used,
        experts,
        bound,
        BLOCK_M=height,
        PADDED=padded_experts(experts),
        BLOCK=block,
    )
    return tiles


def route_visits_reference(ids: Tensor, experts: int) -> Routes:
    """What route_visits gives, in plain torch, for ids that are all experts; with a host synchronisation."""
    order, offsets = sort_by_expert(ids, experts)
    places = order.argsort().view_as(ids)
    ends = torch.tensor(offsets, dtype=torch.int32, device=ids.device)
    return Routes((order // ids.shape[1]).int(), places.int(), ends)


def tiles_reference(offsets: Tensor, height: int) -> list[tuple[int, int]]:
    """(expert, first row) of each tile, by counting."""
    ends = offsets.tolist()
    return [(expert, row) for expert in range(len(ends) - 1) for row in range(ends[expert], ends[expert + 1], height)]


def padded_experts(experts: int) -> int:
    """E as a power of two, which Triton's blocks are, and 16 at least."""
    return max(16, int(triton.next_power_of_2(experts)))


def _int32(beside: Tensor, length: int) -> Tensor:
    return torch.empty(length, dtype=torch.int32, device=beside.device)
