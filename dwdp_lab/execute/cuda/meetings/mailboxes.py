"""Mailboxes in each other's GPU memory: what a rank pushes lands in a place of its own at the receiver.

A mailbox begins with 32-bit words, all in their owner's memory, so that who waits looks at its own. Of each peer:

- `arrived`: how many pieces it has put here. It writes this word after a piece; the owner's stream waits for it.
- `consumed`: how many of the owner's pieces it has read. The owner waits for it before it fills a place again.

    rank a                                               rank b
    wait: consumed[b] >= n - 2                           wait: arrived[a] >= n
    copy into b's place n mod 2 of a                     read its place n mod 2 of a
    write b's arrived[a] = n                             write a's consumed[b] = n

Numbers grow by one with each piece of an ordered pair of ranks, from run to run, and are compared as cyclic ones, so
that they may pass 2**32. Both ends queue a pair's pieces in the same order, each end on one stream at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from dwdp_lab.execute.cuda.gpu.device import Copy, Stream
from dwdp_lab.execute.cuda.meetings.message_pieces import Piece
from dwdp_lab.program.mailbox import FLAG_BYTES, PLACES

WORD_BYTES = 128
"""From one word to the next: each has a cache line of its own."""
ARRIVED, CONSUMED, TRIED = range(3)
KINDS = 3
MOST_RANKS = FLAG_BYTES // WORD_BYTES // KINDS


class Reach(Protocol):
    """Tensors over addresses (`Transport.tensor`)."""

    def tensor(self, address: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor: ...


PutRows = Callable[[Tensor, Tensor, int, Tensor], None]
"""(rows, wanted, first, target): the kernel that writes rows a mask wants (`Arithmetic.put_rows`)."""


class Mailboxes:
    """One rank's end: its own mailbox at address `own`, and its peers', as they are mapped here.

    The words hold `first` when the first piece is queued.
    """

    def __init__(
        self,
        rank: int,
        own: int,
        peers: Mapping[int, int],
        place_bytes: int,
        reach: Reach,
        first: int,
        put_rows: PutRows,
    ) -> None:
        self.rank = rank
        self.own = own
        self.peers = peers
        self.place_bytes = place_bytes
        self._sent = dict.fromkeys(peers, first)
        self._read = dict.fromkeys(peers, first)
        self._put_rows = put_rows

        def places(mailbox: int, owner: int, sender: int) -> list[Tensor]:
            addresses = (mailbox + place_at(owner, sender, number, place_bytes) for number in range(PLACES))
            return [reach.tensor(address, (place_bytes,), torch.uint8) for address in addresses]

        self._places = {peer: places(own, rank, peer) for peer in peers}
        self._places_there = {peer: places(peers[peer], peer, rank) for peer in peers}

    def push(self, stream: Stream, peer: int, piece: Piece) -> None:
        """Queue a piece to a peer, into the place that it has read most: by copy engine, and by a kernel those rows of
        which only some travel."""
        self._sent[peer] += 1
        number = self._sent[peer]
        stream.wait_value(self.own + word_at(CONSUMED, peer), number - PLACES)
        place = self._places_there[peer][number % PLACES]
        start = place.data_ptr()
        if whole := [part for part in piece if part.masked is None]:
            stream.copy([Copy(start + part.offset, part.rows.data_ptr(), part.nbytes) for part in whole])
        for part in piece:
            if part.masked is not None:
                target = place[part.offset : part.offset + part.nbytes]
                stream.run(partial(self._put_rows, *part.masked, part.first, target))
        # what kernels wrote is in the peer's memory before the word too: it is written behind a fence for all devices
        stream.write_value(self.peers[peer] + word_at(ARRIVED, self.rank), number)

    def arrival(self, stream: Stream, peer: int) -> Tensor:
        """Let the stream wait for a peer's next piece; the place [place_bytes] uint8 that it will lie in, until
        `consumed`."""
        number = self._read[peer] + 1
        stream.wait_value(self.own + word_at(ARRIVED, peer), number)
        return self._places[peer][number % PLACES]

    def consumed(self, stream: Stream, peer: int) -> None:
        """What is queued so far has read the peer's piece: its place is free again."""
        self._read[peer] += 1
        stream.write_value(self.peers[peer] + word_at(CONSUMED, self.rank), self._read[peer])


def word_at(kind: int, rank: int) -> int:
    """Where a word about a rank lies in a mailbox."""
    return (KINDS * rank + kind) * WORD_BYTES


def place_at(owner: int, sender: int, number: int, place_bytes: int) -> int:
    """Where a sender's place lies in the owner's mailbox."""
    senders_before = sender - (sender > owner)
    return FLAG_BYTES + (PLACES * senders_before + number) * place_bytes
