"""Messages of any size through places of one size: cut in pieces, as even as whole units allow.

Sender and receiver cut alike, as both know how long every tensor of a message is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dwdp_lab.program.mailbox import UNIT


class Masked(NamedTuple):
    """Rows of which only some travel: their places in a piece are kept, and what is there is undefined."""

    rows: Tensor
    """[R, ...]"""
    wanted: Tensor
    """[R] bool, on the device"""


class Part(NamedTuple):
    """Bytes of one tensor, and where they lie in a place."""

    rows: Tensor
    """[n] uint8, n > 0; a view"""
    offset: int
    masked: Masked | None = None
    """The whole tensor, if only some of its rows travel"""
    first: int = 0
    """The byte of the whole tensor that this begins with"""

    @property
    def nbytes(self) -> int:
        return len(self.rows)


Piece = Sequence[Part]
"""What one place takes at a time."""


def bytes_of(tensor: Tensor) -> Tensor:
    """[n] uint8 view of a contiguous tensor."""
    return tensor.view(-1).view(torch.uint8)


def cut(message: Iterable[Tensor | Masked], place_bytes: int) -> list[Piece]:
    """A message's tensors, one after another, in pieces; none for a message without a byte.

    `place_bytes` is a multiple of UNIT, which every element's size divides.
    """
    starts: list[tuple[int, Tensor, Masked | None]] = []
    end = total = 0
    for each in message:
        masked = each if isinstance(each, Masked) else None
        flat = bytes_of(each.rows if isinstance(each, Masked) else each)
        if len(flat):
            starts.append((end, flat, masked))
            total = end + len(flat)
            end = _up(total)
    if not starts:
        return []
    size = _up(-(-total // -(-total // place_bytes)))
    pieces: list[list[Part]] = [[] for _ in range(0, total, size)]
    for start, flat, masked in starts:
        for number in range(start // size, -(-(start + len(flat)) // size)):
            first, last = max(start, number * size), min(start + len(flat), (number + 1) * size)
            rows = flat[first - start : last - start]
            pieces[number].append(Part(rows, first - number * size, masked, first - start))
    return list(pieces)


def _up(nbytes: int) -> int:
    return -(-nbytes // UNIT) * UNIT
