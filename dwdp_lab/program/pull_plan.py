"""Pull plans: which bytes a rank copies from which peer, in which order and slices.

The shard of one layer that a rank keeps is parameter after parameter, each with its L experts in order, so that the
experts pulled from one peer are one contiguous piece per parameter. A staging slot has the same form with the E - L
pulled experts (view `split`) or all E (views `merged`, `composite`).

Peer orders (N ranks, rank r):
- ascending    peers 0, 1, 2, ...; every rank starts at the same source
- rotated      peers r+1, r+2, ... modulo N; in phase, no two ranks read one source
- interleaved  slices in round robin over the rotated peers (the paper's time-division multiplexing, Listing 1)
- permutation  slices in waves: in each wave rank r reads from r + k modulo N, with k running through a new
               permutation for every round that all ranks share, so that ranks out of phase don't follow each other
Without slices the last two visit the rotated peers, parameter by parameter.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import ceil, fsum
from typing import NamedTuple

from dwdp_lab.program.operation import Pull, Stage
from dwdp_lab.program.placement import Placement, placement
from dwdp_lab.scenario.model_shape import ModelShape
from dwdp_lab.scenario.precision import FORMATS
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.strategy import PeerOrder


@dataclass(frozen=True)
class Layout:
    """Where each parameter's experts lie in a buffer of `experts` experts. Offsets and sizes in bytes."""

    parameters: tuple[tuple[str, int], ...]  # (name, bytes per expert), in memory order
    experts: int

    @property
    def nbytes(self) -> int:
        return self.experts * sum(size for _, size in self.parameters)

    def offset(self, parameter: str, index: int) -> int:
        """Byte offset of the parameter of the index-th expert in this buffer."""
        start = 0
        for name, size in self.parameters:
            if name == parameter:
                return start + index * size
            start += self.experts * size
        raise KeyError(parameter)


class Slice(NamedTuple):
    """One copy: `nbytes` from a peer's shard of the layer into the staging slot."""

    peer: int
    source_offset: int
    slot_offset: int
    nbytes: int


@dataclass(frozen=True)
class PullPlan:
    """All copies of one pull in issue order; the same for every layer."""

    slices: tuple[Slice, ...]
    shard: Layout
    slot: Layout


def parameter_bytes(model: ModelShape) -> tuple[tuple[str, int], ...]:
    """(name, bytes per expert) of what an expert consists of: two weights, and their block scales if it has any."""
    element, block, scale = FORMATS[model.expert_dtype]
    sizes: list[tuple[str, int]] = []
    for name, params in (
        ("w13", 2 * model.expert_intermediate * model.hidden),
        ("w2", model.expert_intermediate * model.hidden),
    ):
        sizes.append((name, ceil(params * element)))
        if block:
            sizes.append((f"{name}_scale", ceil(params / block * scale)))
    return tuple(sizes)


def peer_rotation(rank: int, ranks: int) -> list[int]:
    """The other ranks, starting after `rank`."""
    return [(rank + shift) % ranks for shift in range(1, ranks)]


def pull_plan(scenario: Scenario, rank: int, wanted: Collection[int] | None = None) -> PullPlan:
    """The byte-exact plan of one rank; every remote expert, or every one that is `wanted`, is copied exactly once."""
    where = placement(scenario)
    knobs = scenario.strategy
    sizes = parameter_bytes(scenario.model)
    shard = Layout(sizes, where.local_experts)
    remote_only = knobs.weight_view == "split"
    slot = Layout(sizes, where.experts - where.local_experts if remote_only else where.experts)
    local = where.local(rank)
    shares = {peer: runs for peer, share in where.pulled(rank) if (runs := _runs(share, wanted))}

    def slot_index(expert: int) -> int:
        return expert if not remote_only or expert < local.start else expert - where.local_experts

    def pieces(peer: int, parameter: str, size: int) -> list[Slice]:
        return [piece for experts in shares[peer] for piece in run_pieces(peer, experts, parameter, size)]

    def run_pieces(peer: int, experts: range, parameter: str, size: int) -> list[Slice]:
        source = shard.offset(parameter, experts.start - where.local(peer).start)
        target = slot.offset(parameter, slot_index(experts.start))
        total = len(experts) * size
        step = knobs.slice_bytes or total
        return [Slice(peer, source + done, target + done, min(step, total - done)) for done in range(0, total, step)]

    slices: list[Slice] = []
    peers = [peer for peer in _visits(rank, where.ranks, knobs.peer_order) if peer in shares]
    if knobs.peer_order in ("ascending", "rotated"):
        for peer in peers:
            for name, size in sizes:
                slices += pieces(peer, name, size)
    else:
        for name, size in sizes:
            queues = {peer: iter(pieces(peer, name, size)) for peer in peers}
            rounds = _rounds(rank, where.ranks, shuffled=knobs.peer_order == "permutation" and bool(knobs.slice_bytes))
            while queues:
                for peer in next(rounds):
                    if peer in queues and (piece := next(queues[peer], None)) is None:
                        del queues[peer]
                    elif peer in queues and piece is not None:
                        slices.append(piece)
    return PullPlan(tuple(slices), shard, slot)


def _runs(share: range, wanted: Collection[int] | None) -> list[range]:
    """The stretches of a peer's share that are wanted, each one piece of memory per parameter."""
    if wanted is None:
        return [share]
    runs: list[range] = []
    for expert in share:
        if expert in wanted:
            more = runs and runs[-1].stop == expert
            runs[-1:] = [range(runs[-1].start, expert + 1)] if more else [*runs[-1:], range(expert, expert + 1)]
    return runs


def _visits(rank: int, ranks: int, order: PeerOrder) -> list[int]:
    return sorted(peer_rotation(rank, ranks)) if order == "ascending" else peer_rotation(rank, ranks)


def _rounds(rank: int, ranks: int, shuffled: bool) -> Iterator[list[int]]:
    """For each round of slices, the peers in the order they are visited."""
    shifts = list(range(1, ranks))
    shared = random.Random("permutation waves")  # the same on every rank: that is what keeps a wave a permutation
    while True:
        if shuffled:
            shared.shuffle(shifts)
        yield [(rank + shift) % ranks for shift in shifts]


def pull_of(scenario: Scenario, rank: int) -> Pull:
    """The plan as the simulator sees it: who is read at the same time, without the single slices."""
    knobs = scenario.strategy
    return _pull(placement(scenario), parameter_bytes(scenario.model), rank, knobs.peer_order, knobs.slice_bytes)


@lru_cache(maxsize=1024)
def _pull(
    where: Placement,
    sizes: tuple[tuple[str, int], ...],
    rank: int,
    order: PeerOrder,
    slice_bytes: int | None,
) -> Pull:
    shares = {peer: len(experts) for peer, experts in where.pulled(rank)}
    copies = sum(ceil(count * size / (slice_bytes or count * size)) for count in shares.values() for _, size in sizes)
    return Pull(*_stages(shares, where.ranks, sizes, rank, order, slice_bytes), copies)


def routed_pull_of(scenario: Scenario, rank: int, visited: Sequence[float]) -> Pull:
    """The same for a pull of routed experts only, where expert e is one of them with probability `visited[e]`.

    Copies are counted per stretch of neighbours that are pulled, as those of their bytes beyond that many slices are.
    """
    knobs, where, sizes = scenario.strategy, placement(scenario), parameter_bytes(scenario.model)
    shares, copies = {}, 0.0
    for peer, experts in where.pulled(rank):
        chances = visited[experts.start : experts.stop]
        shares[peer] = count = fsum(chances)
        stretches = chances[0] + fsum(chance * (1.0 - before) for before, chance in pairwise(chances))
        for _, size in sizes:
            copies += max(stretches, count * size / knobs.slice_bytes if knobs.slice_bytes else 0.0)
    shares = {peer: count for peer, count in shares.items() if count > 0.0}
    return Pull(*_stages(shares, where.ranks, sizes, rank, knobs.peer_order, knobs.slice_bytes), copies, True)


def _stages(
    shares: Mapping[int, float],
    ranks: int,
    sizes: tuple[tuple[str, int], ...],
    rank: int,
    order: PeerOrder,
    slice_bytes: int | None,
) -> tuple[tuple[Stage, ...], float]:
    """Who is read at the same time for shares of so many experts per peer, and the bytes in all."""
    peers = [peer for peer in _visits(rank, ranks, order) if peer in shares]
    expert_bytes = sum(size for _, size in sizes)
    nbytes = fsum(shares.values()) * expert_bytes
    stages: list[Stage] = []
    if order in ("ascending", "rotated"):
        stages = [Stage(((peer, float(shares[peer] * expert_bytes)),)) for peer in peers]
    elif slice_bytes is None:
        stages = [Stage(((peer, float(shares[peer] * size)),)) for _, size in sizes for peer in peers]
    else:
        # round robin drains all queues evenly until the shortest is empty, then goes on with the others
        drained = 0.0
        for level in sorted(set(shares.values())):
            members = [peer for peer in peers if shares[peer] >= level]
            stages.append(Stage(tuple((peer, float((level - drained) * expert_bytes)) for peer in members)))
            drained = level
    return tuple(stages), nbytes
