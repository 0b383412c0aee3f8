"""Permutation waves against slices: how much of a link pulls reach, slice by slice, when ranks are not in phase.

The machine in virtual time lets a rank read all peers at once where it slices; here every slice is followed. A rank has
a few slices in flight, each from the source that is next in its order; sources and readers share their link max-min
fairly. As long as all ranks start together every order but the ascending one keeps them apart: in each wave each source
has one reader. Out of phase they meet, in a fixed rotation and in waves of permutations alike; then it helps to have
another slice in flight that uses the link meanwhile.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from dwdp_lab.program.pull_plan import pull_of, pull_plan
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.strategy import PeerOrder

Pieces = Sequence[tuple[int, float]]
"""What a rank pulls, in order: (peer, bytes)."""

ORDERS: tuple[PeerOrder, ...] = ("ascending", "rotated", "interleaved", "permutation")
SLICES_PER_PEER = 24
"""At most so many slices of a peer's share are followed: finer ones change little and take long."""
ROUNDS = 4
"""Pulls that a rank makes one after another."""


@dataclass(frozen=True)
class LinkShares:
    """Share of the link's rate that an order's pulls reach, mean over ranks: started together, and at random moments.

    `slices_per_peer` is 1 where shares are copied whole.
    """

    peer_order: PeerOrder
    slices_per_peer: int
    in_phase: float
    out_of_phase: float


def link_shares(scenario: Scenario, in_flight: int = 2, draws: int = 3) -> tuple[LinkShares, ...]:
    """Every peer order; interleaved and permutation in the scenario's slices (at most 24 per peer), the others whole.

    `in_flight` slices of a rank are under way at once (arXiv 2604.01621, section 4.3.2, has two); what is out of phase
    is a mean over `draws`. Nothing else is simulated: no compute, and a rank's pulls follow each other at once.
    """
    return tuple(_of_order(scenario, order, in_flight, draws) for order in ORDERS)


def _of_order(scenario: Scenario, order: PeerOrder, in_flight: int, draws: int) -> LinkShares:
    sliced = order in ("interleaved", "permutation")
    whole = pull_of(scenario, 0).nbytes / max(1, scenario.ranks - 1)
    finest = int(whole / SLICES_PER_PEER) + 1
    slice_bytes = max(scenario.strategy.slice_bytes or 0, finest, 1024) if sliced else None
    one = scenario.replace(**{"strategy.peer_order": order, "strategy.slice_bytes": slice_bytes})
    pulls = [_pieces(one, rank) for rank in range(one.ranks)]
    together = reached(pulls, [0.0] * one.ranks, in_flight)
    apart = []
    for number in range(draws):
        draw = random.Random(f"phases {number}")
        apart.append(reached(pulls, [draw.uniform(0.0, _nbytes(pulls)) for _ in pulls], in_flight))
    count = round(len(pulls[0]) / max(1, one.ranks - 1)) if sliced else 1
    return LinkShares(order, count, together, math.fsum(apart) / draws)


def _pieces(scenario: Scenario, rank: int) -> Pieces:
    """A rank's slices; copies of one share that follow each other are one where shares are copied whole."""
    pieces: list[tuple[int, float]] = []
    for piece in pull_plan(scenario, rank).slices:
        if scenario.strategy.slice_bytes is None and pieces and pieces[-1][0] == piece.peer:
            pieces[-1] = (piece.peer, pieces[-1][1] + piece.nbytes)
        else:
            pieces.append((piece.peer, float(piece.nbytes)))
    return pieces


def _nbytes(pulls: Sequence[Pieces]) -> float:
    return max(math.fsum(nbytes for _, nbytes in pieces) for pieces in pulls)


def reached(pulls: Sequence[Pieces], starts: Sequence[float], in_flight: int, rounds: int = ROUNDS) -> float:
    """Share of a link's rate that ranks reach while each pulls its pieces `rounds` times, from its start on.

    Times are in bytes: a link carries one in a unit of time, out of each source and into each reader. 1 for ranks that
    pull nothing.
    """
    queues = [[*pieces] * rounds for pieces in pulls]
    place, ends = [0] * len(pulls), [0.0] * len(pulls)
    flows: list[list[float]] = []  # rank, source, bytes left
    waiting = sorted((start, rank) for rank, start in enumerate(starts) if queues[rank])
    now = 0.0
    while flows or waiting:
        if not flows:
            now = max(now, waiting[0][0])
        while waiting and waiting[0][0] <= now:
            _, rank = waiting.pop(0)
            for _ in range(min(in_flight, len(queues[rank]))):
                flows.append(_next(queues[rank], rank, place))
        rates = max_min([(int(rank), int(source)) for rank, source, _ in flows])
        took = min(left / rate for (_, _, left), rate in zip(flows, rates, strict=True))
        if waiting:
            took = min(took, waiting[0][0] - now)
        now += took
        for flow, rate in zip(flows, rates, strict=True):
            flow[2] -= rate * took
        ended = [int(flow[0]) for flow in flows if flow[2] <= 1e-6]
        flows = [flow for flow in flows if flow[2] > 1e-6]
        for rank in ended:
            if place[rank] < len(queues[rank]):
                flows.append(_next(queues[rank], rank, place))
            ends[rank] = now
    shares = [
        rounds * math.fsum(nbytes for _, nbytes in pieces) / (end - start)
        for pieces, start, end in zip(pulls, starts, ends, strict=True)
        if pieces
    ]
    return math.fsum(shares) / len(shares) if shares else 1.0


def _next(queue: Pieces, rank: int, place: list[int]) -> list[float]:
    source, nbytes = queue[place[rank]]
    place[rank] += 1
    return [rank, source, nbytes]


def max_min(flows: Sequence[tuple[int, int]]) -> list[float]:
    """Max-min fair rates of flows (reader, source), where every reader and every source carries 1 in all."""
    rates = [0.0] * len(flows)
    room: dict[tuple[str, int], float] = {}
    users: dict[tuple[str, int], set[int]] = {}
    for number, (reader, source) in enumerate(flows):
        for end in (("in", reader), ("out", source)):
            room[end] = 1.0
            users.setdefault(end, set()).add(number)
    while users:
        tightest = min(users, key=lambda end: room[end] / len(users[end]))
        level = room[tightest] / len(users[tightest])
        for number in list(users[tightest]):
            rates[number] = level
            reader, source = flows[number]
            for end in (("in", reader), ("out", source)):
                room[end] -= level
                users[end].discard(number)
                if not users[end]:
                    del users[end]
    return rates
