"""The discrete-event machine: runs programs in virtual time.

An operation starts when its lane is free and the operations whose signals it waits for have ended. Compute takes what
the cost model says; a pull takes as long as the links need; a collective starts when the last rank has reached it, a
message when both of its ranks have.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dwdp_lab.program.operation import COLLECTIVES, MESSAGES, Op, Program, Pull, Stage, Unit
from dwdp_lab.simulate.compute_lane import ComputeLane
from dwdp_lab.simulate.cost import CostModel, Piece
from dwdp_lab.simulate.links import Links, PrivateLinks
from dwdp_lab.simulate.meetings import Arrival, Meetings
from dwdp_lab.simulate.one_source_links import OneSourceLinks
from dwdp_lab.simulate.one_source_nodes import OneSourceNodes
from dwdp_lab.simulate.progress import Order, Progress, Shape
from dwdp_lab.simulate.shared_links import SharedLinks
from dwdp_lab.timeline.span import Span


class StuckError(RuntimeError):
    """Operations that can never start (a program that the checker would have refused)."""


@dataclass(frozen=True)
class Simulated:
    """A run in virtual time: its spans, in order of their ends, and what each rank's units were busy with.

    `readers_us[c]` is the time that pulls read from a source with c readers (only of pulls without slices).
    """

    spans: list[Span]
    unit_us: tuple[dict[Unit, float], ...]
    readers_us: dict[int, float]


def run_programs(programs: Sequence[Program], cost: CostModel) -> list[Span]:
    """Spans of all ranks, in order of their ends.

    Raises LookupError for a wait that nothing signals and StuckError when ranks wait for each other for ever.
    """
    machine = _Machine(programs, cost)
    machine.run()
    return machine.spans


def run_with_unit_times(programs: Sequence[Program], cost: CostModel) -> Simulated:
    """The same, and per rank the time each unit took, slowed by copies where the physics say so."""
    machine = _Machine(programs, cost)
    machine.run()
    unit_us = tuple(machine.unit_times(place) for place in range(len(programs)))
    readers_us = machine.links.level_us if isinstance(machine.links, OneSourceLinks) else {}
    return Simulated(machine.spans, unit_us, readers_us)


def _links(programs: Sequence[Program], cost: CostModel) -> Links:
    rate = cost.link_bytes_per_us
    pulls = {id(op.pull): op.pull for program in programs for op in program.ops if op.pull is not None}
    if math.isinf(rate) or not cost.physics.shared_links or not pulls:
        return PrivateLinks(rate)
    ranks, gives, pair = len(programs), cost.egress_bytes_per_us, cost.pair_bytes_per_us
    nodes = cost.nodes(ranks)
    if any(len(stage.sources) > 1 for pull in pulls.values() for stage in pull.stages):
        return SharedLinks(ranks, gives, rate, pair, nodes)
    return (
        OneSourceLinks(ranks, gives, rate, pair) if nodes is None else OneSourceNodes(ranks, gives, rate, pair, nodes)
    )


MEETINGS = COLLECTIVES | MESSAGES
_COMPUTE_PIECE = -1  # in the heap, in place of an operation's index


class _Cost(NamedTuple):
    """An operation's pieces, their time alone, and what its span says: bytes and FLOPs."""

    pieces: tuple[Piece, ...]
    alone_us: float
    nbytes: float
    flops: float


class _Machine:
    def __init__(self, programs: Sequence[Program], cost: CostModel) -> None:
        self.cost = cost
        self.ranks = [Progress(program.rank, program.ops) for program in programs]
        self.links = _links(programs, cost)
        self.spans: list[Span] = []
        self.heap: list[tuple[float, int, int, int, int]] = []  # (time, order, rank, operation, version)
        self.order = 0
        self.meetings = Meetings(self.ranks)
        self.stages_of: dict[int, tuple[Stage, ...]] = {}
        self.collective_us: dict[tuple[str | int, ...], float] = {}
        known: dict[tuple[int, int, int, str], _Cost] = {}
        self.costs = [[self.cost_of(op, known) for op in program.ops] for program in programs]
        # only where copies slow compute: what runs
        self.compute = [ComputeLane() for _ in programs] if cost.physics.interference else []
        # collectives and messages disturb compute beside them as pulls do: how many run, since when at least one does
        # (inf: none), and for how long before
        self.exchanges = [0] * len(programs)
        self.exchanging_since = [math.inf] * len(programs)
        self.exchanged_us = [0.0] * len(programs)

    def push(self, time_us: float, rank: int, index: int, version: int = 0) -> None:
        self.order += 1
        heapq.heappush(self.heap, (time_us, self.order, rank, index, version))

    def run(self) -> None:
        known: dict[Shape, Order] = {}
        for place, rank in enumerate(self.ranks):
            for index in rank.prepare(known):
                self.start(place, index, 0.0)
        heap, run_links = self.heap, self.links.run
        while True:
            finished = run_links(heap[0][0] if heap else math.inf)
            if finished is not None:
                self.end_pull(finished.rank, finished.end_us)
                continue
            if not heap:
                break
            now, _, place, index, version = heapq.heappop(heap)
            if index >= 0:
                self.end(place, index, now)
            elif version == self.compute[place].version:
                self.end_piece(place, now)
        left = sum(len(rank.ops) for rank in self.ranks) - sum(s.kind != "wait_peers" for s in self.spans)
        if left:
            raise StuckError(f"{left} operations can never start: ranks wait for each other")

    def start(self, place: int, index: int, now: float) -> None:
        rank = self.ranks[place]
        op = rank.ops[index]
        rank.started_us[index] = now
        if op.kind == "pull":
            self.start_pull(place, index, _pull(op), now)
        elif op.kind in MEETINGS:
            self.meet(place, index, op, now)
        elif self.compute:
            lane = self.compute[place]
            so_far_us, disturbance = self.disturbed(place, now)
            end = lane.begin(index, self.costs[place][index].pieces, now, so_far_us, disturbance)
            self.push(end, place, _COMPUTE_PIECE, lane.version)
        else:
            self.push(now + self.costs[place][index].alone_us, place, index)

    def end_piece(self, place: int, now: float) -> None:
        lane = self.compute[place]
        index = lane.index
        so_far_us, disturbance = self.disturbed(place, now)
        end = lane.goes_on(now, so_far_us, disturbance)
        if end is None:
            self.end(place, index, now)
        else:
            self.push(end, place, _COMPUTE_PIECE, lane.version)

    def meet(self, place: int, index: int, op: Op, now: float) -> None:
        """A collective, or one end of a message: it begins for all when the last has come."""
        met = self.meetings.come(Arrival(place, index, now), op)
        if not met:
            return
        sent = [(one.place, self.ranks[one.place].ops[one.operation].collective) for one in sorted(met)]
        if op.kind in COLLECTIVES:
            amounts = [one for _, one in sent if one is not None]
            key = op.kind, *map(id, amounts)  # layers share them
            took = self.collective_us.get(key, -1.0)
            if took < 0.0:
                took = self.collective_us[key] = self.cost.collective_us(amounts, op.kind)
        else:
            ends = {place for place, _ in sent}
            took = math.fsum(
                self.cost.message_us(one, source, *(ends - {source})) for source, one in sent if one is not None
            )
        for arrival in met:
            self.begin_exchange(arrival, now, took)

    def begin_exchange(self, arrival: Arrival, now: float, took: float) -> None:
        """A collective or message begins for one rank, which may have waited for it."""
        place, index, arrived = arrival
        rank = self.ranks[place]
        op = rank.ops[index]
        if now > arrived:
            self.spans.append(Span(rank.rank, op.lane, "wait_peers", op.step, op.layer, arrived, now))
        rank.started_us[index] = now
        self.push(now + took, place, index)
        if self.compute:
            if not self.exchanges[place]:
                self.exchanging_since[place] = now
            self.exchanges[place] += 1
            self.reconsider(place, now)

    def start_pull(self, place: int, index: int, pull: Pull, now: float) -> None:
        stages = self.stages_of.get(id(pull))
        if stages is None:  # longer by the fixed cost of their copies
            longer = self.cost.pull_overhead(pull)
            stages = tuple([Stage(tuple([(peer, n * longer) for peer, n in stage.sources])) for stage in pull.stages])
            self.stages_of[id(pull)] = stages
        if not stages:  # nothing to pull
            self.push(now, place, index)
            return
        self.ranks[place].pulling = index
        self.links.start(place, stages, now)
        self.reconsider(place, now)

    def end_pull(self, place: int, now: float) -> None:
        rank = self.ranks[place]
        index, rank.pulling = rank.pulling, -1
        self.end(place, index, now)
        if rank.pulling < 0:
            self.reconsider(place, now)

    def disturbed(self, place: int, now: float) -> tuple[float, float]:
        """For how long transfers have disturbed the rank so far, and how much they do now (see links.py)."""
        so_far_us, disturbance = self.links.disturbed(place, now)
        so_far_us += self.exchanged_us[place]
        exchanging_us = now - self.exchanging_since[place]
        return (so_far_us + exchanging_us, 1.0) if exchanging_us >= 0.0 else (so_far_us, disturbance)

    def reconsider(self, place: int, now: float) -> None:
        """A transfer of the rank's own has begun or ended: its compute is disturbed more, or less."""
        if self.compute:
            lane = self.compute[place]
            so_far_us, disturbance = self.disturbed(place, now)
            end = lane.reconsider(now, so_far_us, disturbance)
            if end is not None:
                self.push(end, place, _COMPUTE_PIECE, lane.version)

    def end(self, place: int, index: int, now: float) -> None:
        rank = self.ranks[place]
        op = rank.ops[index]
        if self.compute and op.kind in MEETINGS:
            self.exchanges[place] -= 1
            if not self.exchanges[place]:
                self.exchanged_us[place] += now - self.exchanging_since[place]
                self.exchanging_since[place] = math.inf
            self.reconsider(place, now)
        cost = self.costs[place][index]
        self.spans.append(
            Span(rank.rank, op.lane, op.kind, op.step, op.layer, rank.started_us[index], now, cost.nbytes, cost.flops)
        )
        unmet = rank.unmet
        for follower in rank.followers[index]:
            unmet[follower] -= 1
            if not unmet[follower]:
                self.start(place, follower, now)

    def unit_times(self, place: int) -> dict[Unit, float]:
        """Time of each unit of one rank over the whole run."""
        if self.compute:
            return dict(self.compute[place].unit_us)
        total: dict[Unit, float] = defaultdict(float)
        for cost in self.costs[place]:
            for piece in cost.pieces:
                total[piece.unit] += piece.alone_us
        return dict(total)

    def cost_of(self, op: Op, known: dict[tuple[int, int, int, str], _Cost]) -> _Cost:
        """What an operation costs. Layers share what they do, so what is `known` of it is looked up."""
        key = id(op.work), id(op.pull), id(op.collective), op.kind
        cost = known.get(key)
        if cost is None:
            pieces = self.cost.pieces(op.work, op.kind)
            counted = self.cost.counted(op.work)  # bytes that take no time would show as an impossible rate
            nbytes, flops = math.fsum([work.hbm_bytes for work in counted]), math.fsum([work.flops for work in counted])
            if op.pull is not None:
                nbytes = op.pull.nbytes
            elif op.collective is not None:
                nbytes = math.fsum(op.collective.sent_bytes)
            cost = known[key] = _Cost(pieces, math.fsum([piece.alone_us for piece in pieces]), nbytes, flops)
        return cost


def _pull(op: Op) -> Pull:
    if op.pull is None:
        raise ValueError(f"{op} has no pull: a strategy makes pulls with rank.pull(...)")
    return op.pull
