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

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from dwdp_lab.execute.cuda.device import Copy, Stream
from dwdp_lab.execute.cuda.message_pieces import Piece
from dwdp_lab.program.mailbox import FLAG_BYTES, PLACES

WORD_BYTES = 128
"""From one word to the next: each has a cache line of its own."""
ARRIVED, CONSUMED, TRIED = range(3)
KINDS = 3
MOST_RANKS = FLAG_BYTES // WORD_BYTES // KINDS


class Reach(Protocol):
    """Tensors over addresses (`Transport.tensor`)."""

    def tensor(self, address: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor: ...


class Mailboxes:
    """One rank's end: its own mailbox at address `own`, and its peers', as they are mapped here.

    The words hold `first` when the first piece is queued.
    """

    def __init__(
        self, rank: int, own: int, peers: Mapping[int, int], place_bytes: int, reach: Reach, first: int
    ) -> None:
        self.rank = rank
        self.own = own
        self.peers = peers
        self.place_bytes = place_bytes
        self._sent = dict.fromkeys(peers, first)
        self._read = dict.fromkeys(peers, first)
        self._places = {
            peer: [
                reach.tensor(own + place_at(rank, peer, number, place_bytes), (place_bytes,), torch.uint8)
                for number in range(PLACES)
            ]
            for peer in peers
        }

    def push(self, stream: Stream, peer: int, piece: Piece) -> None:
        """Queue a piece to a peer, into the place that it has read most."""
        self._sent[peer] += 1
        number = self._sent[peer]
        stream.wait_value(self.own + word_at(CONSUMED, peer), number - PLACES)
        place = self.peers[peer] + place_at(peer, self.rank, number % PLACES, self.place_bytes)
        stream.copy([Copy(place + part.offset, part.rows.data_ptr(), part.nbytes) for part in piece])
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
