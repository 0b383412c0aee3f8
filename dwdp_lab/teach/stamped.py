"""Stamped weights: every byte says which expert and parameter it belongs to, so a copied byte can be recognised.

Benchmarks of answers do not find a page of wrong weights; exact stamps do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dwdp_lab.program.placement import Placement
from dwdp_lab.program.pull_plan import Layout

Sizes = Sequence[tuple[str, int]]
"""(parameter, bytes per expert), in memory order"""
Copy = tuple[int, int, int, int]
"""(peer, offset in the peer's shard, offset in the slot, bytes)"""


class Stamp(NamedTuple):
    """What a byte is: the byte-th of one parameter of one expert."""

    parameter: str
    expert: int
    byte: int

    def __str__(self) -> str:
        return f"byte {self.byte} of expert {self.expert}'s {self.parameter}"


def shard(where: Placement, rank: int, sizes: Sizes) -> list[Stamp]:
    """The experts that a rank keeps, as they lie in its memory: parameter after parameter."""
    return _stamps(list(where.local(rank)), sizes)


def slot(where: Placement, rank: int, sizes: Sizes) -> list[Stamp]:
    """What a rank's slot should hold after a pull: the experts that it lacks, in ascending order."""
    own = where.local(rank)
    return _stamps([expert for expert in range(where.experts) if expert not in own], sizes)


def _stamps(experts: Sequence[int], sizes: Sizes) -> list[Stamp]:
    return [Stamp(name, expert, byte) for name, size in sizes for expert in experts for byte in range(size)]


def wrong_byte(where: Placement, rank: int, sizes: Sizes, copies: Sequence[Copy]) -> str | None:
    """Make the copies, byte by byte, and say what is wrong with the first byte that is; None when nothing is."""
    shards = {peer: shard(where, peer, sizes) for peer in range(where.ranks)}
    wanted = slot(where, rank, sizes)
    held: list[Stamp | None] = [None] * len(wanted)
    come_from: dict[int, Copy] = {}
    for copy in copies:
        peer, source, target, nbytes = copy
        if peer not in shards or peer == rank:
            return f"{copy} reads from {peer}, which is no peer of rank {rank}."
        if nbytes < 1 or source < 0 or target < 0:
            return f"{copy} has a negative offset or no bytes."
        if source + nbytes > len(shards[peer]):
            return f"{copy} reads past the end of rank {peer}'s shard of {len(shards[peer])} bytes."
        if target + nbytes > len(held):
            return f"{copy} writes past the end of the slot of {len(held)} bytes."
        for byte in range(nbytes):
            if target + byte in come_from:
                return f"{copy} writes byte {target + byte} of the slot, which {come_from[target + byte]} has written."
            come_from[target + byte] = copy
            held[target + byte] = shards[peer][source + byte]
    for place, (have, want) in enumerate(zip(held, wanted, strict=True)):
        if have is None:
            return f"nothing is copied to byte {place} of the slot, where {want} belongs."
        if have != want:
            return f"byte {place} of the slot should be {want}, but {come_from[place]} brings {have}."
    return None


def slot_index(where: Placement, rank: int, expert: int) -> int:
    """Where a pulled expert stands among the pulled ones."""
    own = where.local(rank)
    return expert if expert < own.start else expert - len(own)


def layouts(where: Placement, sizes: Sizes) -> tuple[Layout, Layout]:
    """The layout of a shard and of a slot."""
    parameters = tuple(sizes)
    return Layout(parameters, where.local_experts), Layout(parameters, where.experts - where.local_experts)
