"""What ranks share while copies are measured: bytes that look random, and that tell whose they are and where they lay.

The word at place i of rank r's memory is a scrambled i and r, so that anyone can say what must stand anywhere without
asking its owner. Bytes from a wrong rank or a wrong place, stale bytes and missing bytes are all noticed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dwdp_lab.program.pull_plan import Slice

GUARD = 4096
"""Bytes before and after what a case writes that must stay as they were."""

WORD = 8
_SAMPLED = 1021  # one byte in so many is computed anew: a prime, so that no stride of the layout evades it
_COMPARED = 64 << 20  # bytes at a time: torch's comparison makes as many of its own
_CHUNK = 1 << 20  # words written at a time, so that filling needs little memory of its own
# odd multipliers of Steele, Lea and Flood's SplitMix64 (OOPSLA 2014), as signed numbers: torch has no shift or product
# of unsigned ones
_STEP, _RANK, _MIX_1, _MIX_2 = -7046029254386353131, 1442695040888963407, -4658895280553007687, -7723592293110705685


class WrongBytes(ArithmeticError):  # noqa: N818 - it reads as what it reports
    """A rank did not receive what its source holds, or more than that."""


def words(rank: int, places: Tensor) -> Tensor:
    """The 64-bit words at these places (int64 of any shape) of a rank's memory, as int64."""
    mixed = (places + 1) * _STEP + (rank + 1) * _RANK
    mixed = (mixed ^ _logical_shift(mixed, 30)) * _MIX_1
    mixed = (mixed ^ _logical_shift(mixed, 27)) * _MIX_2
    return mixed ^ _logical_shift(mixed, 31)


def _logical_shift(values: Tensor, by: int) -> Tensor:
    return (values >> by) & ((1 << (64 - by)) - 1)


def fill(memory: Tensor, rank: int) -> None:
    """Write a rank's bytes to its memory (uint8, a multiple of 8 long)."""
    whole = memory.view(torch.int64)
    for first in range(0, len(whole), _CHUNK):
        part = whole[first : first + _CHUNK]
        part.copy_(words(rank, torch.arange(first, first + len(part), device=memory.device)))


def expected_bytes(rank: int, offsets: Tensor) -> Tensor:
    """The bytes (uint8) at these byte offsets (int64) of a rank's memory."""
    word = words(rank, offsets // WORD)
    return ((word >> (8 * (offsets % WORD))) & 0xFF).to(torch.uint8)


def check_received(target: Tensor, slices: Sequence[Slice], sources: Sequence[Tensor], scrubbed: int) -> int:
    """Compare all that a rank received with its sources, and how many bytes these were.

    `target` begins GUARD bytes before offset 0 and ends GUARD bytes after the last one that was to be written; it was
    filled with the byte `scrubbed` before. Every byte is compared with the source's memory, and one in 1021 with what
    must stand there whatever that memory holds. Raises WrongBytes for the first difference.
    """
    for guard in (target[:GUARD], target[-GUARD:]):
        if not bool((guard == scrubbed).all()):
            raise WrongBytes("a copy wrote outside its target")
    done = 0
    for piece in slices:
        received = target[GUARD + piece.slot_offset :][: piece.nbytes]
        held = sources[piece.peer][piece.source_offset :][: piece.nbytes]
        for begin in range(0, piece.nbytes, _COMPARED):
            _compare(received[begin : begin + _COMPARED], held[begin : begin + _COMPARED], begin, piece)
        places = torch.arange(0, piece.nbytes, _SAMPLED, device=target.device)
        if not torch.equal(received[places], expected_bytes(piece.peer, places + piece.source_offset)):
            raise WrongBytes(f"{piece} brought bytes of another rank or another place")
        done += piece.nbytes
    return done


def _compare(received: Tensor, held: Tensor, begin: int, piece: Slice) -> None:
    if not torch.equal(received, held):
        first = int((received != held).nonzero()[0])
        raise WrongBytes(
            f"byte {begin + first} of {piece} is {int(received[first])}, its source holds {int(held[first])}"
        )
