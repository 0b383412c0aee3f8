"""A pull plan's slices as copies between addresses."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from dwdp_lab.execute.cuda.experts.store_plan import StorePlan
from dwdp_lab.execute.cuda.gpu.device import Copy
from dwdp_lab.program.pull_plan import Layout, PullPlan, pull_plan
from dwdp_lab.scenario.scenario import Scenario

TargetOf = Callable[[str], int]
"""The parameter's address in a slot: where its first expert is or would be."""


class Piece(NamedTuple):
    """One copy, relative to where the parameter begins at the peer and in the slot."""

    peer: int
    name: str
    source: int
    target: int
    nbytes: int


class Pulls:
    """The copies of a rank's pulls. `peers`: where their stores lie in this rank's addresses, and in which form."""

    def __init__(self, scenario: Scenario, rank: int, peers: Mapping[int, tuple[int, StorePlan]]) -> None:
        self.scenario = scenario
        self.rank = rank
        self.peers = peers
        self.pieces = pieces_of(pull_plan(scenario, rank))

    def copies(self, layer: int, target_of: TargetOf, wanted: Collection[int] | None = None) -> tuple[Copy, ...]:
        """A layer's copies in the plan's order: of all that the rank lacks, or of no more than the wanted experts."""
        pieces = self.pieces if wanted is None else pieces_of(pull_plan(self.scenario, self.rank, wanted))
        names = {piece.name for piece in pieces}
        targets = {name: target_of(name) for name in names}
        sources = {}
        for peer, name in {(piece.peer, piece.name) for piece in pieces}:
            address, store = self.peers[peer]
            sources[peer, name] = address + store.regions[layer, name].data.start
        return tuple(
            Copy(targets[name] + target, sources[peer, name] + source, nbytes)
            for peer, name, source, target, nbytes in pieces
        )


def pieces_of(plan: PullPlan) -> tuple[Piece, ...]:
    """The slices, each told by its parameter: here parameters need not lie as closely as the plan counts them."""
    found = []
    for peer, source, target, nbytes in plan.slices:
        name = _parameter_at(plan.shard, source)
        found.append(Piece(peer, name, source - plan.shard.offset(name, 0), target - plan.slot.offset(name, 0), nbytes))
    return tuple(found)


def _parameter_at(layout: Layout, offset: int) -> str:
    start = 0
    for name, size in layout.parameters:
        start += layout.experts * size
        if offset < start:
            return name
    raise ValueError(f"byte {offset} lies behind all parameters ({start} bytes)")
