"""A stand-in for one rank's GPU: streams are queues, in which nothing runs before an adversary picks it.

A wait sees what was recorded when it was queued; copies are torn in pieces that other work comes between.
"""

from __future__ import annotations

import ctypes
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dwdp_lab.execute.cuda.device import Copy

if TYPE_CHECKING:
    from adversary import World


@dataclass
class StandInEvent:
    """Waiting is for one particular record of it."""

    recorded: int = 0
    happened: set[int] = field(default_factory=set)
    at_ns: int = 0


class Actor:
    """Whatever the chooser may pick: a rank's host code, or a stream."""

    def __init__(self, name: str) -> None:
        self.name = name

    def ready(self) -> bool:
        raise AssertionError

    def state(self) -> str:
        raise AssertionError

    def __repr__(self) -> str:
        return self.name


@dataclass
class Command:
    """One entry of a stream: it may run when `may` holds, and `run` says whether it has ended."""

    may: Callable[[], bool]
    run: Callable[[], bool]
    meeting: object = None


class StandInStream(Actor):
    """A queue of commands. Queueing is a point at which others may come first."""

    def __init__(self, name: str, device: StandInDevice) -> None:
        super().__init__(name)
        self.device = device
        self.commands: deque[Command] = deque()

    def ready(self) -> bool:
        return bool(self.commands) and self.commands[0].may()

    def state(self) -> str:
        meeting = self.commands[0].meeting if self.commands else None
        return f"{self.name} has {len(self.commands)} commands" + (f", first the meeting {meeting}" if meeting else "")

    def step(self) -> None:
        """Run the first command, or a piece of it."""
        command = self.commands[0]
        if command.run():
            ended = self.commands.popleft()
            assert ended is command

    def queue(self, run: Callable[[], bool], may: Callable[[], bool] = lambda: True, meeting: object = None) -> None:
        self.commands.append(Command(may, run, meeting))
        self.device.world.may_pause(self.device.rank)

    def run(self, work: Callable[[], None]) -> None:
        def once() -> bool:
            with torch.inference_mode():
                work()
            return True

        self.queue(once)

    def copy(self, copies: Sequence[Copy]) -> None:
        pieces = self.device.world.torn(copies)

        def one() -> bool:
            if pieces:
                target, source, nbytes = pieces.pop()
                ctypes.memmove(target, source, nbytes)
            return not pieces

        self.queue(one)

    def wait(self, event: Any) -> None:
        version = event.recorded
        if version:
            self.queue(lambda: True, lambda: version in event.happened)

    def record(self, event: Any) -> None:
        event.recorded += 1
        version = event.recorded

        def happen() -> bool:
            event.happened.add(version)
            event.at_ns = time.monotonic_ns()
            return True

        self.queue(happen)

    def uses(self, tensor: Tensor) -> None:
        del tensor  # here Python keeps what is referred to, and queued work refers to it


class StandInGate:
    """It holds nothing back: when a gate opens is up to the adversary. Whether it was opened is told."""

    def __init__(self) -> None:
        self.opened = False

    def open(self) -> None:
        self.opened = True


class StandInDevice:
    """One rank's GPU, on the CPU."""

    def __init__(self, world: World, rank: int, memory: Any) -> None:
        self.torch_device = torch.device("cpu")
        self.memory = memory
        self.world = world
        self.rank = rank
        self.streams: list[StandInStream] = []
        self.gates: list[StandInGate] = []

    def stream(self, name: str) -> StandInStream:
        made = StandInStream(f"{name} {self.rank}", self)
        self.streams.append(made)
        self.world.actors.append(made)
        return made

    def event(self, timed: bool = False) -> StandInEvent:
        del timed
        return StandInEvent()

    def hold(self, streams: Sequence[Any]) -> StandInGate:
        del streams
        self.gates.append(StandInGate())
        return self.gates[-1]

    def elapsed_us(self, first: Any, second: Any) -> float:
        return float(second.at_ns - first.at_ns) / 1e3

    def wait(self, event: Any) -> None:
        version = event.recorded
        if version:
            self.world.pause(self.rank, lambda: version in event.happened)

    def synchronize(self) -> None:
        self.world.pause(self.rank, lambda: not any(stream.commands for stream in self.streams))
