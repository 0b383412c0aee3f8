"""Collectives over NCCL, from GPU to GPU.

Where ranks have different numbers of rows NCCL's own forms would need padding to the longest. Then each pair of ranks
sends and receives exactly what there is, all tensors in one launch, and what a rank has for itself never enters NCCL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from dwdp_lab.execute.cpu.exchange_rows import exchange_objects
from dwdp_lab.execute.cuda.gpu.device import Stream
from dwdp_lab.execute.cuda.meetings.meeting import Gathering, Sums, Swap, even

_dist: Any = dist
# torch 2.13 renamed both and warns about the old names
_all_gather = getattr(dist, "all_gather_single", None) or _dist.all_gather_into_tensor
_reduce_scatter = getattr(dist, "reduce_scatter_single", None) or _dist.reduce_scatter_tensor

Pieces = tuple[Sequence[Tensor], Sequence[Tensor]]
"""For each rank what it is sent, and where what it sends is put; of one tensor."""


class NcclMeeting:
    """The default process group: NCCL for GPUs, gloo for what goes through the host."""

    notes: tuple[str, ...] = ("collectives over NCCL",)
    holds_processors = True
    leaves_rows_out = False

    def __init__(self, ranks: int, rank: int) -> None:
        self.ranks = ranks
        self.rank = rank

    def gather(self, stream: Stream, make: Callable[[], Sequence[Gathering]]) -> None:
        stream.run(lambda: self._gather(make()))

    def _gather(self, gatherings: Sequence[Gathering]) -> None:
        if all(even(one.sizes) for one in gatherings):
            # one launch for all of them: the small ones (experts, weights) cost no round of their own; as bytes, so
            # that they are of one type, which some of torch's coalesced collectives ask for
            with _dist.distributed_c10d._coalescing_manager():
                for one in gatherings:
                    _all_gather(one.everyone.view(torch.uint8), one.own.view(torch.uint8))
            return
        self._exchange(([one.own] * self.ranks, torch.split(one.everyone, list(one.sizes))) for one in gatherings)

    def scatter_sums(self, stream: Stream, make: Callable[[], Sums]) -> None:
        stream.run(lambda: self._scatter_sums(make()))

    def _scatter_sums(self, sums: Sums) -> None:
        partial, own, sizes = sums.partial, sums.own, sums.sizes
        if even(sizes):
            _reduce_scatter(own, partial)
            return
        parts = torch.split(partial, list(sizes))
        arrived = [parts[self.rank] if rank == self.rank else torch.empty_like(own) for rank in range(self.ranks)]
        self._exchange([(parts, arrived)])
        if self.ranks == 2:  # in fp32, rounded once, as below, and with nothing copied
            torch.add(arrived[0], arrived[1], out=own)
        else:
            torch.sum(torch.stack(arrived), 0, out=own)

    def add_up(self, stream: Stream, make: Callable[[], Tensor]) -> None:
        stream.run(lambda: dist.all_reduce(make()))

    def swap(self, stream: Stream, make: Callable[[], Sequence[Swap]]) -> None:
        stream.run(lambda: self._swap(make()))

    def _swap(self, swaps: Sequence[Swap]) -> None:
        self._exchange(
            (torch.split(outgoing, list(sent)), torch.split(incoming, list(received)))
            for outgoing, incoming, sent, received in swaps
        )

    def send(self, stream: Stream, make: Callable[[], Tensor], peer: int) -> None:
        stream.run(lambda: dist.send(make(), peer))

    def receive(self, stream: Stream, make: Callable[[], Tensor], peer: int) -> None:
        stream.run(lambda: _received(make(), peer))

    def deal(self, parts: Sequence[Any]) -> list[Any]:
        return exchange_objects(list(parts))

    def _exchange(self, tensors: Iterable[Pieces]) -> None:
        """Every rank's pieces to every rank, of all tensors at once. Both ends know of each piece how long it is, so
        empty ones need not travel."""
        here: list[tuple[Tensor, Tensor]] = []
        messages: list[dist.P2POp] = []
        for outgoing, incoming in tensors:
            for peer, (out, into) in enumerate(zip(outgoing, incoming, strict=True)):
                if peer == self.rank:
                    here.append((out, into))
                    continue
                messages += [dist.P2POp(dist.isend, out, peer)] if out.numel() else []
                messages += [dist.P2POp(dist.irecv, into, peer)] if into.numel() else []
        under_way = dist.batch_isend_irecv(messages) if messages else []
        for out, into in here:  # while the others travel: NCCL has taken a stream of its own
            if into is not out:
                into.copy_(out)
        for each in under_way:
            each.wait()  # the current stream waits, not the host


def _received(rows: Tensor, peer: int) -> None:
    dist.recv(rows, peer)
