"""The discrete-event machine: runs programs in virtual time.

An operation starts when its lane is free and the operations whose signals it waits for have ended. Compute takes what
the cost model says; a pull takes as long as the links need; a collective starts when the last rank has reached it.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from dwdp_lab.program.operation import COLLECTIVES, Op, Program, Pull, Stage, Unit, awaited
from dwdp_lab.simulate.compute_lane import ComputeLane
from dwdp_lab.simulate.cost import CostModel
from dwdp_lab.simulate.links import Change, Links, OneSourceLinks, PrivateLinks, SharedLinks
from dwdp_lab.timeline.span import Span


class StuckError(RuntimeError):
    """Operations that can never start (a program that the checker would have refused)."""


@dataclass
class _Rank:
    """One rank's progress: what every operation still waits for, and who waits for it."""

    rank: int
    ops: tuple[Op, ...]
    unmet: list[int] = field(default_factory=list)
    followers: list[list[int]] = field(default_factory=list)
    started_us: list[float] = field(default_factory=list)
    pulling: int = -1  # the pull that runs
    stage: int = 0

    def prepare(self) -> list[int]:
        """Resolve events and lane order. Returns the operations that can start at once."""
        count = len(self.ops)
        self.unmet = [0] * count
        self.followers = [[] for _ in range(count)]
        self.started_us = [0.0] * count
        last_on_lane: dict[str, int] = {}
        for index, (op, needs) in enumerate(zip(self.ops, awaited(self.ops), strict=True)):
            before = last_on_lane.get(op.lane)
            last_on_lane[op.lane] = index
            sources = set(needs) if needs else set()
            if before is not None:
                sources.add(before)
            for source in sources:
                self.followers[source].append(index)
            self.unmet[index] = len(sources)
        return [index for index, unmet in enumerate(self.unmet) if unmet == 0]


@dataclass(frozen=True)
class Simulated:
    """A run in virtual time: its spans, in order of their ends, and what each rank's units were busy with."""

    spans: list[Span]
    unit_us: tuple[dict[Unit, float], ...]


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
    return Simulated(machine.spans, tuple(machine.unit_times(place) for place in range(len(programs))))


def _links(programs: Sequence[Program], cost: CostModel) -> Links:
    rate = cost.link_bytes_per_us
    if math.isinf(rate) or not cost.physics.shared_links:
        return PrivateLinks(rate)
    pulls = {id(op.pull): op.pull for program in programs for op in program.ops if op.pull is not None}
    if all(len(stage.sources) == 1 for pull in pulls.values() for stage in pull.stages):
        return OneSourceLinks(rate, rate)
    return SharedLinks(rate, rate)


# in the heap, in place of an operation's index
_PULL_STAGE = -1
_COMPUTE_PIECE = -2


class _Machine:
    def __init__(self, programs: Sequence[Program], cost: CostModel) -> None:
        self.cost = cost
        self.ranks = [_Rank(program.rank, program.ops) for program in programs]
        self.links = _links(programs, cost)
        self.spans: list[Span] = []
        self.heap: list[tuple[float, int, int, int, int]] = []  # (time, order, rank, operation, version)
        self.order = 0
        self.arrivals: dict[tuple[str, int, int], list[tuple[int, int, float]]] = {}
        self.stages_of: dict[int, tuple[Stage, ...]] = {}
        # only where copies slow compute: what runs, who reads whom, and whose links' load has changed
        self.compute = [ComputeLane() for _ in programs] if cost.physics.interference else []
        self.readers = [0] * len(programs)
        self.dirty: set[int] = set()

    def push(self, time_us: float, rank: int, index: int, version: int = 0) -> None:
        self.order += 1
        heapq.heappush(self.heap, (time_us, self.order, rank, index, version))

    def run(self) -> None:
        for place, rank in enumerate(self.ranks):
            for index in rank.prepare():
                self.start(place, index, 0.0)
        now = 0.0
        while self.heap or self.dirty:
            # a pull that goes on with its next source does not leave its links idle in between
            if self.dirty and (not self.heap or self.heap[0][0] > now):
                self.update_traffic(now)
                continue
            now, _, place, index, version = heapq.heappop(self.heap)
            if index >= 0:
                self.end(place, index, now)
            elif index == _PULL_STAGE:
                if version == self.links.current(place):
                    self.end_stage(place, now)
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
            rank.pulling, rank.stage = index, 0
            self.start_stage(place, _pull(op), now)
        elif op.kind in COLLECTIVES:
            self.arrive(place, index, op, now)
        elif self.compute:
            end = self.compute[place].begin(index, self.cost.pieces(op.work), now)
            self.push(end, place, _COMPUTE_PIECE, self.compute[place].version)
        else:
            self.push(now + self.cost.work_us(op.work), place, index)

    def end_piece(self, place: int, now: float) -> None:
        lane = self.compute[place]
        index = lane.index
        end = lane.piece_ended(now)
        if end is None:
            self.end(place, index, now)
        else:
            self.push(end, place, _COMPUTE_PIECE, lane.version)

    def update_traffic(self, now: float) -> None:
        for place in sorted(self.dirty):
            lane = self.compute[place]
            load = ((self.ranks[place].pulling >= 0) + (self.readers[place] > 0)) / 2
            end = lane.set_traffic(load, now)
            if end is not None:
                self.push(end, place, _COMPUTE_PIECE, lane.version)
        self.dirty.clear()

    def arrive(self, place: int, index: int, op: Op, now: float) -> None:
        key = (op.kind, op.step, op.layer)
        here = self.arrivals.setdefault(key, [])
        here.append((place, index, now))
        if len(here) < len(self.ranks):
            return
        sent = [self.ranks[p].ops[i].collective for p, i, _ in sorted(here)]
        took = self.cost.collective_us([one for one in sent if one is not None])
        for p, i, arrived in self.arrivals.pop(key):
            other = self.ranks[p]
            if now > arrived:
                self.spans.append(Span(other.rank, op.lane, "wait_peers", op.step, op.layer, arrived, now))
            other.started_us[i] = now
            self.push(now + took, p, i)

    def stages(self, pull: Pull) -> tuple[Stage, ...]:
        """The pull's stages, longer by the fixed cost of their copies."""
        stages = self.stages_of.get(id(pull))
        if stages is None:
            longer = self.cost.pull_overhead(pull)
            stages = tuple(Stage(tuple([(peer, n * longer) for peer, n in stage.sources])) for stage in pull.stages)
            self.stages_of[id(pull)] = stages
        return stages

    def start_stage(self, place: int, pull: Pull, now: float) -> None:
        rank = self.ranks[place]
        stages = self.stages(pull)
        if rank.stage < len(stages):
            stage = stages[rank.stage]
            if self.compute:
                self.count_readers(place, stage, +1)
            self.reschedule(self.links.start(place, stage, now))
        else:  # nothing (more) to pull
            index, rank.pulling = rank.pulling, -1
            if self.compute:
                self.dirty.add(place)
            self.end(place, index, now)

    def end_stage(self, place: int, now: float) -> None:
        rank = self.ranks[place]
        pull = _pull(rank.ops[rank.pulling])
        if self.compute:
            self.count_readers(place, self.stages(pull)[rank.stage], -1)
        self.reschedule(self.links.end(place, now))
        rank.stage += 1
        self.start_stage(place, pull, now)

    def count_readers(self, place: int, stage: Stage, change: int) -> None:
        self.dirty.add(place)
        for source, _ in stage.sources:
            self.readers[source] += change
            self.dirty.add(source)

    def reschedule(self, changes: list[Change]) -> None:
        for rank, end_us, version in changes:
            self.push(end_us, rank, _PULL_STAGE, version)

    def end(self, place: int, index: int, now: float) -> None:
        rank = self.ranks[place]
        op = rank.ops[index]
        self.spans.append(_span(rank.rank, op, rank.started_us[index], now))
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
        for op in self.ranks[place].ops:
            for piece in self.cost.pieces(op.work):
                total[piece.unit] += piece.alone_us
        return dict(total)


def _pull(op: Op) -> Pull:
    if op.pull is None:
        raise ValueError(f"{op} has no pull: a strategy makes pulls with rank.pull(...)")
    return op.pull


def _span(rank: int, op: Op, start_us: float, end_us: float) -> Span:
    flops = nbytes = 0.0
    for piece in op.work:
        flops += piece.flops
        nbytes += piece.hbm_bytes
    if op.pull is not None:
        nbytes = op.pull.nbytes
    elif op.collective is not None:
        nbytes = sum(op.collective.sent_bytes)
    return Span(rank, op.lane, op.kind, op.step, op.layer, start_us, end_us, nbytes, flops)
