"""A group of ranks on stand-in GPUs: what they say to the session and to each other, all within one process."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
import torch
from adversary import World, chooser
from host_memory import HostMemory
from stand_in_device import StandInDevice, StandInStream
from torch import Tensor

from dwdp_lab.execute.cuda.gpu.clock import anchor
from dwdp_lab.execute.cuda.kept import Kept
from dwdp_lab.execute.cuda.meetings.meeting import Gathering, Sums, Swap
from dwdp_lab.execute.cuda.rank_machine import RankMachine
from dwdp_lab.execute.cuda.run_order import run_order
from dwdp_lab.execute.messages import Finished, Order
from dwdp_lab.program.build import build
from dwdp_lab.program.operation import Program
from dwdp_lab.scenario.scenario import Scenario


class Line:
    """Where a rank's reports go."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, message: Any, fds: Sequence[int] = ()) -> None:
        del fds
        self.sent.append(message)


@dataclass
class Table:
    """What all ranks put down together."""

    ranks: int
    parts: dict[str, dict[int, tuple[Any, list[int]]]] = field(default_factory=dict)
    taken: dict[str, int] = field(default_factory=dict)


class StandInSession:
    """One rank's session: `gather` meets the other ranks of this process."""

    def __init__(self, world: World, rank: int, table: Table) -> None:
        self.world = world
        self.rank = rank
        self.ranks = table.ranks
        self.channel = Line()
        self._table = table

    def gather(self, name: str, value: Any, fds: Sequence[int] = ()) -> tuple[tuple[Any, ...], list[int]]:
        parts = self._table.parts.setdefault(name, {})
        assert self.rank not in parts, f"rank {self.rank} is at {name!r} twice"
        parts[self.rank] = value, [os.dup(fd) for fd in fds]
        self.world.pause(self.rank, lambda: len(parts) == self.ranks)
        values = tuple(parts[rank][0] for rank in range(self.ranks))
        received = [os.dup(fd) for rank in range(self.ranks) for fd in parts[rank][1]]
        self._table.taken[name] = self._table.taken.get(name, 0) + 1
        if self._table.taken[name] == self.ranks:
            for _, files in parts.values():
                for fd in files:
                    os.close(fd)
            del self._table.parts[name], self._table.taken[name]
        else:
            self.world.pause(self.rank, lambda: self._table.parts.get(name) is not parts)
        return values, received


class Agreement:
    """What all ranks' meetings share: each collective's parts, by its number in the common order."""

    def __init__(self, ranks: int) -> None:
        self.ranks = ranks
        self.arrived: dict[object, dict[int, tuple[StandInStream, Callable[[], Any]]]] = {}
        self.dealt: dict[int, dict[int, Sequence[Any]]] = {}

    def all_there(self, key: object, members: int) -> bool:
        """All of them have come to this point of their streams."""
        parts = self.arrived.get(key, {})
        return len(parts) == members and all(
            stream.commands and stream.commands[0].meeting == key for stream, _ in parts.values()
        )


class StandInMeeting:
    """Collectives among the ranks of this process: they take place when all ranks' streams have come to them."""

    notes: tuple[str, ...] = ("collectives of the stand-in",)
    holds_processors = True
    leaves_rows_out = False

    def __init__(self, world: World, agreement: Agreement, rank: int) -> None:
        self._world = world
        self._agreement = agreement
        self._rank = rank
        self._numbers: dict[object, int] = {}

    def gather(self, stream: Any, make: Callable[[], Sequence[Gathering]]) -> None:
        self._meet(stream, make, _gather)

    def scatter_sums(self, stream: Any, make: Callable[[], Sums]) -> None:
        self._meet(stream, make, _scatter_sums)

    def add_up(self, stream: Any, make: Callable[[], Tensor]) -> None:
        self._meet(stream, make, _add_up)

    def swap(self, stream: Any, make: Callable[[], Sequence[Swap]]) -> None:
        self._meet(stream, make, _swap)

    def send(self, stream: Any, make: Callable[[], Tensor], peer: int) -> None:
        self._meet(stream, make, _message, (self._rank, peer))

    def receive(self, stream: Any, make: Callable[[], Tensor], peer: int) -> None:
        self._meet(stream, make, _message, (peer, self._rank))

    def deal(self, parts: Sequence[Any]) -> list[Any]:
        table = self._agreement.dealt.setdefault(self._number("dealt"), {})
        table[self._rank] = parts
        self._world.pause(self._rank, lambda: len(table) == self._agreement.ranks)
        return [table[rank][self._rank] for rank in range(self._agreement.ranks)]

    def _number(self, of: object) -> int:
        self._numbers[of] = self._numbers.get(of, -1) + 1
        return self._numbers[of]

    def _meet(
        self,
        stream: StandInStream,
        make: Callable[[], Any],
        move: Callable[[list[Any]], None],
        between: tuple[int, ...] | None = None,
    ) -> None:
        """`between` whom, in which order; all, if it is not said."""
        stream.meet(lambda on: self._queue_meeting(on, make, move, between))

    def _queue_meeting(
        self,
        stream: StandInStream,
        make: Callable[[], Any],
        move: Callable[[list[Any]], None],
        between: tuple[int, ...] | None,
    ) -> None:
        agreement = self._agreement
        members = tuple(range(agreement.ranks)) if between is None else between
        key = between, self._number(between)
        agreement.arrived.setdefault(key, {})[self._rank] = stream, make

        def take_place() -> bool:
            """Whose turn comes first does it for all; the others find it done."""
            parts = agreement.arrived.pop(key)
            with torch.inference_mode():
                move([parts[rank][1]() for rank in members])
            for other, _ in parts.values():
                if other is not stream:
                    other.commands.popleft()
            return True

        stream.queue(take_place, lambda: agreement.all_there(key, len(members)), key)


def _gather(parts: list[Sequence[Gathering]]) -> None:
    for gatherings in zip(*parts, strict=True):
        rows = torch.cat([one.own for one in gatherings])
        for one in gatherings:
            assert list(one.sizes) == [len(other.own) for other in gatherings]
            one.everyone.copy_(rows)


def _scatter_sums(parts: list[Sums]) -> None:
    for rank, sums in enumerate(parts):
        begin = sum(sums.sizes[:rank])
        rows = [part.partial[begin : begin + len(sums.own)] for part in parts]
        sums.own.copy_(torch.stack(rows).sum(0, dtype=torch.float32))


def _add_up(parts: list[Tensor]) -> None:
    total = torch.stack(parts).sum(0, dtype=torch.float32)
    for part in parts:
        part.copy_(total)


def _swap(parts: list[Sequence[Swap]]) -> None:
    for swaps in zip(*parts, strict=True):
        for rank, swap in enumerate(swaps):
            rows = [torch.split(other.outgoing, list(other.sent))[rank] for other in swaps]
            assert [len(part) for part in rows] == list(swap.received)
            swap.incoming.copy_(torch.cat(rows))


def _message(ends: list[Tensor]) -> None:
    ends[1].copy_(ends[0])


def start_at_once(patch: pytest.MonkeyPatch) -> None:
    """Nobody waits for an agreed moment: in such a group the adversary decides when work starts."""
    patch.setattr("dwdp_lab.execute.cuda.timed_run.HEAD_START_NS", 0)
    for module in ("run_order", "timed_run"):
        patch.setattr(f"dwdp_lab.execute.cuda.{module}.anchor", partial(anchor, tries=1))
    torch.set_num_threads(1)


class StandInGroup:
    """N ranks that keep their weights from run to run, as rank processes do. With `copies` they meet through each
    other's memory, else all at once."""

    def __init__(self, ranks: int, seed: int = 0, page: int = 4096, copies: bool = False) -> None:
        self.world = World(ranks, *chooser(seed))
        table, self.agreement = Table(ranks), Agreement(ranks)
        self.sessions = [StandInSession(self.world, rank, table) for rank in range(ranks)]
        self.devices = [StandInDevice(self.world, rank, HostMemory(page)) for rank in range(ranks)]
        self.machines = [
            RankMachine(
                device,
                Kept(device),
                lambda session: StandInMeeting(self.world, self.agreement, session.rank),
                copies=copies,
            )
            for device in self.devices
        ]

    def schedule(self, seed: int) -> None:
        """Another adversary from now on."""
        self.world._choose, self.world._dice = chooser(seed)

    def run(
        self,
        scenario: Scenario,
        programs: Sequence[Program] | None = None,
        graph: bool = False,
        profiled: bool = False,
    ) -> list[Finished]:
        """One order on every rank; nothing checks the programs."""
        programs = build(scenario) if programs is None else programs
        kinds = frozenset(op.kind for program in programs for op in program.ops)

        def live(rank: int) -> Finished:
            in_micro_batches = any(op.micro is not None for program in programs for op in program.ops)
            order = Order(scenario, programs[rank], kinds, True, in_micro_batches, graph=graph, profiled=profiled)
            return run_order(self.sessions[rank], self.machines[rank], order)  # type: ignore[arg-type]

        finished: list[Finished] = self.world.run(live)
        assert all(gate.opened for device in self.devices for gate in device.gates)
        return finished

    def close(self) -> None:
        self.world.run(lambda rank: self.machines[rank].close(self.sessions[rank]))  # type: ignore[arg-type]
