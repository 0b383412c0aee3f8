"""Collectives over NCCL, from GPU to GPU.

Where ranks have different numbers of rows an all-gather becomes sends and receives of exactly those, and a
reduce-scatter sends and receives with the sum at home: NCCL's own forms would need padding to the longest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from dwdp_lab.execute.cpu.exchange_rows import exchange_objects
from dwdp_lab.execute.cuda.device import Stream
from dwdp_lab.execute.cuda.meeting import Gathering, Sums, Swap, even

_dist: Any = dist
# torch 2.13 renamed both and warns about the old names
_all_gather = getattr(dist, "all_gather_single", None) or _dist.all_gather_into_tensor
_reduce_scatter = getattr(dist, "reduce_scatter_single", None) or _dist.reduce_scatter_tensor


class NcclMeeting:
    """The default process group: NCCL for GPUs, gloo for what goes through the host."""

    notes: tuple[str, ...] = ("collectives over NCCL",)

    def __init__(self, ranks: int) -> None:
        self.ranks = ranks

    def gather(self, stream: Stream, make: Callable[[], Sequence[Gathering]]) -> None:
        stream.run(lambda: self._gather(make()))

    def _gather(self, gatherings: Sequence[Gathering]) -> None:
        if all(even(one.sizes) for one in gatherings):
            # one launch for all of them: the small ones (experts, weights) cost no round of their own
            with _dist.distributed_c10d._coalescing_manager():
                for own, everyone, _ in gatherings:
                    _all_gather(everyone, own)
            return
        for own, everyone, sizes in gatherings:
            dist.all_to_all(list(torch.split(everyone, list(sizes))), [own] * self.ranks)

    def scatter_sums(self, stream: Stream, make: Callable[[], Sums]) -> None:
        stream.run(lambda: self._scatter_sums(make()))

    def _scatter_sums(self, sums: Sums) -> None:
        partial, own, sizes = sums
        if even(sizes):
            _reduce_scatter(own, partial)
            return
        arrived = torch.empty(self.ranks, *own.shape, dtype=own.dtype, device=own.device)
        dist.all_to_all(list(arrived), list(torch.split(partial, list(sizes))))
        torch.sum(arrived, 0, out=own)  # in fp32, rounded once

    def add_up(self, stream: Stream, make: Callable[[], Tensor]) -> None:
        stream.run(lambda: dist.all_reduce(make()))

    def swap(self, stream: Stream, make: Callable[[], Sequence[Swap]]) -> None:
        stream.run(lambda: self._swap(make()))

    def _swap(self, swaps: Sequence[Swap]) -> None:
        for outgoing, incoming, sent, received in swaps:
            dist.all_to_all_single(incoming, outgoing, list(received), list(sent))

    def send(self, stream: Stream, make: Callable[[], Tensor], peer: int) -> None:
        stream.run(lambda: dist.send(make(), peer))

    def receive(self, stream: Stream, make: Callable[[], Tensor], peer: int) -> None:
        stream.run(lambda: _received(make(), peer))

    def deal(self, parts: Sequence[Any]) -> list[Any]:
        return exchange_objects(list(parts))


def _received(rows: Tensor, peer: int) -> None:
    dist.recv(rows, peer)
