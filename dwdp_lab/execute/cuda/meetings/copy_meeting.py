"""Collectives and messages by copy engine, through mailboxes in each other's memory.

Copies go out on a stream of their own, so that the next piece travels while one is read; no processor waits, and the
host never does. Rows of which a mask leaves some out are written by a kernel instead, on the same stream: a copy engine
would have to be told by the host which they are. What arrived is read by kernels of the stream that the collective is
queued on, which has everything behind it when the last piece is out and the last one in.

Sums are added in rank order, in fp32, and rounded once, so that they are the same from run to run and on all ranks. Of
two ranks they are NCCL's bit for bit, as one addition is rounded once anyway; of more NCCL rounds in between.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dwdp_lab.execute.cuda.compute.choose_arithmetic import arithmetic_on
from dwdp_lab.execute.cuda.gpu.device import Device, Stream
from dwdp_lab.execute.cuda.meetings.mailboxes import Mailboxes
from dwdp_lab.execute.cuda.meetings.meeting import Gathering, Meeting, Sums, Swap
from dwdp_lab.execute.cuda.meetings.message_pieces import Masked, Piece, bytes_of, cut

Message = Sequence[Tensor | Masked]
ByPeer = Mapping[int, Message]
Read = Callable[[Stream, Mapping[int, Piece]], None]
"""Queues the reading of one piece from each of some peers, in the order in which they are likely to come."""

Add = Callable[[Sequence[Tensor], int, Tensor], None]
"""(parts in rank order, the first element of the whole that they are of, the sum)."""

AT_ONCE_BYTES = 1 << 20
"""Up to this size all ranks send their parts of a sum to all, instead of a share of each that is added up first: it is
one exchange instead of two. Between two ranks it is so at any size, as both move the same bytes."""


class CopyMeeting:
    """`push` is the stream that pieces go out on; `underneath` deals what goes through the host."""

    notes: tuple[str, ...] = ("collectives by copy engine through peer memory",)
    holds_processors = False
    leaves_rows_out = True

    def __init__(self, device: Device, push: Stream, boxes: Mailboxes, underneath: Meeting) -> None:
        self.rank = boxes.rank
        self.ranks = 1 + len(boxes.peers)
        self._device = device
        self._boxes = boxes
        self._underneath = underneath
        self._push = push
        self._add_rows = arithmetic_on(device.torch_device).add_rows
        # all ranks start at different peers, so that no two of them write to the same one at once
        self._after_me = [(self.rank + step) % self.ranks for step in range(1, self.ranks)]
        self._before_me = [(self.rank - step) % self.ranks for step in range(1, self.ranks)]

    def gather(self, stream: Stream, make: Callable[[], Sequence[Gathering]]) -> None:
        stream.run(lambda: self._gather(stream, make()))

    def _gather(self, stream: Stream, gatherings: Sequence[Gathering]) -> None:
        everyone = [torch.split(one.everyone, list(one.sizes)) for one in gatherings]
        outgoing = [[_wanted(one, rank) for one in gatherings] for rank in range(self.ranks)]
        self._exchange_rows(stream, outgoing, [[parts[rank] for parts in everyone] for rank in range(self.ranks)])

    def swap(self, stream: Stream, make: Callable[[], Sequence[Swap]]) -> None:
        stream.run(lambda: self._swap(stream, make()))

    def _swap(self, stream: Stream, swaps: Sequence[Swap]) -> None:
        outgoing = [torch.split(one.outgoing, list(one.sent)) for one in swaps]
        incoming = [torch.split(one.incoming, list(one.received)) for one in swaps]
        by_rank = ([[parts[rank] for parts in each] for rank in range(self.ranks)] for each in (outgoing, incoming))
        self._exchange_rows(stream, *by_rank)

    def _exchange_rows(self, stream: Stream, outgoing: Sequence[Message], incoming: Sequence[Message]) -> None:
        """By rank, with what this one has for itself."""

        def keep_own() -> None:
            for out, into in zip(map(_whole, outgoing[self.rank]), map(_whole, incoming[self.rank]), strict=True):
                if into.data_ptr() != out.data_ptr():
                    into.copy_(out)

        self._exchange(stream, dict(enumerate(outgoing)), dict(enumerate(incoming)), self._read_rows, keep_own)

    def scatter_sums(self, stream: Stream, make: Callable[[], Sums]) -> None:
        stream.run(lambda: self._scatter_sums(stream, make()))

    def _scatter_sums(self, stream: Stream, sums: Sums) -> None:
        parts = torch.split(sums.partial, list(sums.sizes))
        incoming = {peer: [sums.own] for peer in self._before_me}
        if sums.given is None:
            outgoing: ByPeer = {peer: [parts[peer]] for peer in self._after_me}
            add: Add = _add_all
        else:
            given = torch.split(sums.given, list(sums.sizes), 1)
            outgoing = {peer: [Masked(parts[peer], given[peer][self.rank])] for peer in self._after_me}
            add = partial(self._add_given, given[self.rank], sums.own.shape[1])
        self._exchange(stream, outgoing, incoming, partial(self._read_sums, parts[self.rank], sums.own, add))

    def _add_given(self, given: Tensor, columns: int, parts: Sequence[Tensor], begin: int, out: Tensor) -> None:
        self._add_rows(parts, given, columns, begin, out)

    def add_up(self, stream: Stream, make: Callable[[], Tensor]) -> None:
        stream.run(lambda: self._add_up(stream, make()))

    def _add_up(self, stream: Stream, part: Tensor) -> None:
        flat = part.view(-1)
        if self.ranks == 2 or flat.nbytes <= AT_ONCE_BYTES:
            others = {peer: [flat] for peer in self._after_me}

            def read(stream: Stream, pieces: Mapping[int, Piece]) -> None:
                self._follow(stream, self._push)  # the sum takes the place of what this rank has sent
                self._read_sums(flat, flat, _add_all, stream, pieces)

            self._exchange(stream, others, others, read)
            return
        sizes = [len(share) for share in torch.tensor_split(flat, self.ranks)]
        own = flat.new_empty(sizes[self.rank])
        self._scatter_sums(stream, Sums(flat, own, sizes))
        self._gather(stream, [Gathering(own, flat, sizes)])

    def send(self, stream: Stream, make: Callable[[], Tensor], peer: int) -> None:
        stream.run(lambda: self._exchange(stream, {peer: [make()]}, {}, self._read_rows))

    def receive(self, stream: Stream, make: Callable[[], Tensor], peer: int) -> None:
        stream.run(lambda: self._exchange(stream, {}, {peer: [make()]}, self._read_rows))

    def deal(self, parts: Sequence[Any]) -> list[Any]:
        return self._underneath.deal(parts)

    def _exchange(
        self,
        stream: Stream,
        outgoing: ByPeer,
        incoming: ByPeer,
        read: Read,
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        """Messages to some peers and from some, piece by piece: every rank pushes its next pieces before it reads the
        ones that came, and waits for no more than pieces before those, so that there is no circle."""
        place_bytes = self._boxes.place_bytes
        out = {peer: cut(outgoing[peer], place_bytes) for peer in self._after_me if peer in outgoing}
        into = {peer: cut(incoming[peer], place_bytes) for peer in self._before_me if peer in incoming}
        if pushes := any(out.values()):
            self._follow(self._push, stream)
        if meanwhile is not None:
            stream.run(meanwhile)
        for number in range(max((len(pieces) for pieces in (*out.values(), *into.values())), default=0)):
            for peer, pieces in _with(out, number).items():
                self._boxes.push(self._push, peer, pieces)
            if pieces_in := _with(into, number):
                read(stream, pieces_in)
        if pushes:
            self._follow(stream, self._push)
            stream.run(lambda: _kept(out))

    def _read_rows(self, stream: Stream, pieces: Mapping[int, Piece]) -> None:
        for peer, piece in pieces.items():
            place = self._boxes.arrival(stream, peer)
            stream.run(partial(_copy_out, place, piece))
            self._boxes.consumed(stream, peer)

    def _read_sums(self, mine: Tensor, total: Tensor, add: Add, stream: Stream, pieces: Mapping[int, Piece]) -> None:
        """Every peer has sent the same part of what is to be added; `pieces` are views of `total`."""
        places = {peer: self._boxes.arrival(stream, peer) for peer in pieces}
        ((rows, offset, _, begin),) = next(iter(pieces.values()))
        arrived = {peer: place[offset : offset + len(rows)] for peer, place in places.items()}
        arrived[self.rank] = bytes_of(mine)[begin : begin + len(rows)]
        in_order = [arrived[rank].view(total.dtype) for rank in range(self.ranks)]
        stream.run(lambda: add(in_order, begin // total.itemsize, rows.view(total.dtype)))
        for peer in pieces:
            self._boxes.consumed(stream, peer)

    def _follow(self, stream: Stream, before: Stream) -> None:
        event = self._device.event()
        before.record(event)
        stream.wait(event)


def _with(pieces: Mapping[int, Sequence[Piece]], number: int) -> dict[int, Piece]:
    return {peer: each[number] for peer, each in pieces.items() if number < len(each)}


def _copy_out(place: Tensor, piece: Piece) -> None:
    for part in piece:
        part.rows.copy_(place[part.offset : part.offset + part.nbytes])


def _wanted(one: Gathering, rank: int) -> Tensor | Masked:
    return one.own if one.wanted is None else Masked(one.own, one.wanted[rank])


def _whole(rows: Tensor | Masked) -> Tensor:
    return rows.rows if isinstance(rows, Masked) else rows


def _add_all(parts: Sequence[Tensor], _begin: int, out: Tensor) -> None:
    add_in_order(parts, out)


def _kept(out: object) -> None:
    """What is copied from lives at least until the stream has come here: a copy is known by its address alone."""


def add_in_order(parts: Sequence[Tensor], out: Tensor) -> None:
    """The sum of two tensors or more, first to last, in fp32 and rounded once."""
    if len(parts) > 2:
        total = parts[0].float() + parts[1]
        for part in parts[2:-1]:
            total += part
        torch.add(total, parts[-1], out=out)
    else:
        torch.add(parts[0], parts[1], out=out)  # which a GPU does in fp32, as sums of two are exact there
