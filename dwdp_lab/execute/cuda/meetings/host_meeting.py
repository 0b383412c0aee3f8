"""Collectives through host memory, over gloo: for ranks that share a GPU, which NCCL refuses, where copies
do not work.

Each waits for its stream, so the host blocks. Times of such runs say nothing about GPUs that are not shared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from dwdp_lab.execute.cpu.exchange_rows import as_bytes, exchange_objects, exchange_rows
from dwdp_lab.execute.cuda.gpu.device import Stream
from dwdp_lab.execute.cuda.meetings.meeting import Gathering, Sums, Swap


class HostMeeting:
    """The default process group, which must be gloo's. Rows travel as bytes, so that every type goes the same way."""

    notes: tuple[str, ...] = ("collectives through host memory, as ranks share a GPU",)
    holds_processors = False
    leaves_rows_out = False

    def __init__(self, ranks: int) -> None:
        self.ranks = ranks

    def gather(self, stream: Stream, make: Callable[[], Sequence[Gathering]]) -> None:
        stream.run(lambda: self._gather(make()))

    def _gather(self, gatherings: Sequence[Gathering]) -> None:
        for one in gatherings:
            outgoing = torch.cat([one.own.cpu()] * self.ranks)
            one.everyone.copy_(_swapped(outgoing, [len(one.own)] * self.ranks, one.sizes))

    def scatter_sums(self, stream: Stream, make: Callable[[], Sums]) -> None:
        stream.run(lambda: self._scatter_sums(make()))

    def _scatter_sums(self, sums: Sums) -> None:
        partial, own, sizes = sums.partial, sums.own, sums.sizes
        arrived = _swapped(partial.cpu(), sizes, [len(own)] * self.ranks).view(self.ranks, *own.shape)
        own.copy_(arrived.sum(0, dtype=torch.float32))

    def add_up(self, stream: Stream, make: Callable[[], Tensor]) -> None:
        stream.run(lambda: self._add_up(make()))

    def _add_up(self, part: Tensor) -> None:
        count = len(part)
        outgoing = torch.cat([part.cpu()] * self.ranks)
        arrived = _swapped(outgoing, [count] * self.ranks, [count] * self.ranks).view(self.ranks, *part.shape)
        part.copy_(arrived.sum(0, dtype=torch.float32))

    def swap(self, stream: Stream, make: Callable[[], Sequence[Swap]]) -> None:
        stream.run(lambda: self._swap(make()))

    def _swap(self, swaps: Sequence[Swap]) -> None:
        for outgoing, incoming, sent, received in swaps:
            incoming.copy_(_swapped(outgoing.cpu(), sent, received))

    def send(self, stream: Stream, make: Callable[[], Tensor], peer: int) -> None:
        stream.run(lambda: dist.send(as_bytes(make().cpu()), peer))

    def receive(self, stream: Stream, make: Callable[[], Tensor], peer: int) -> None:
        stream.run(lambda: self._receive(make(), peer))

    def _receive(self, rows: Tensor, peer: int) -> None:
        arrived = torch.empty_like(rows, device="cpu")
        dist.recv(as_bytes(arrived), peer)
        rows.copy_(arrived)

    def deal(self, parts: Sequence[Any]) -> list[Any]:
        return exchange_objects(list(parts))


def _swapped(outgoing: Tensor, sent: Sequence[int], received: Sequence[int]) -> Tensor:
    return exchange_rows(outgoing, sent, received).view(sum(received), *outgoing.shape[1:])
