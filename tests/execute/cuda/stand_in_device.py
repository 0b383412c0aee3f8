"""A stand-in for one rank's GPU: streams are queues, in which nothing runs before an adversary picks it.

A wait sees what was recorded when it was queued; copies are torn in pieces that other work comes between. A graph keeps
what each captured stream was given; a replay queues it on streams of the graph's own.
"""

from __future__ import annotations

import ctypes
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dwdp_lab.execute.cuda.gpu.device import Copy

if TYPE_CHECKING:
    from adversary import World


@dataclass(eq=False)
class StandInEvent:
    """Waiting is for one particular record of it."""

    timed: bool = False
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


@dataclass(eq=False)
class StandInGraph:
    """What each captured stream was given, in issue order, and the graph's own stream in place of each."""

    inside: dict[StandInStream, StandInStream] = field(default_factory=dict)
    given: list[tuple[StandInStream, Callable[[StandInStream], None]]] = field(default_factory=list)
    recorded: dict[StandInEvent, tuple[StandInStream, int]] = field(default_factory=dict)
    """Untimed events of the capture, by which other streams come into it: where each was last, and after how much."""
    unjoined: dict[StandInStream, int] = field(default_factory=dict)
    """Streams whose last work nobody has waited for, and how much they were given."""
    complete: bool = False


class StandInStream(Actor):
    """A queue of commands. Queueing is a point at which others may come first."""

    def __init__(self, name: str, device: StandInDevice, gpu: int | None = None) -> None:
        super().__init__(name)
        self.device = device
        self.gpu = gpu
        """Another rank's GPU, if that has the stream."""
        self.commands: deque[Command] = deque()
        self.inside: list[Command] | None = None
        """What the command that runs now gives to its own stream: it comes right after it, as on a GPU, where a command
        is called when it is queued."""

    def _into_graph(self, give: Callable[[StandInStream], None]) -> bool:
        """While this stream is captured: keep what it is given."""
        graph = self.device.capturing
        if graph is None or self not in graph.inside:
            return False
        graph.given.append((self, give))
        graph.unjoined[self] = len(graph.given)
        return True

    def meet(self, command: Callable[[StandInStream], None]) -> None:
        """Queue a meeting of ranks, which numbers itself when it is queued."""
        if not self._into_graph(command):
            command(self)

    def ready(self) -> bool:
        return bool(self.commands) and self.commands[0].may()

    def state(self) -> str:
        meeting = self.commands[0].meeting if self.commands else None
        return f"{self.name} has {len(self.commands)} commands" + (f", first the meeting {meeting}" if meeting else "")

    def step(self) -> None:
        """Run the first command, or a piece of it."""
        command = self.commands[0]
        self.inside, self.device.at_work = [], True
        try:
            over = command.run()
        finally:
            inside, self.inside, self.device.at_work = self.inside, None, False
        if over:
            ended = self.commands.popleft()
            assert ended is command
            self.commands.extendleft(reversed(inside))

    def queue(self, run: Callable[[], bool], may: Callable[[], bool] = lambda: True, meeting: object = None) -> None:
        if self.inside is not None:
            self.inside.append(Command(may, run, meeting))
            return
        self.commands.append(Command(may, run, meeting))
        if not self.device.at_work:
            self.device.world.may_pause(self.device.rank)

    def run(self, work: Callable[[], None]) -> None:
        if self._into_graph(lambda inside: inside.run(work)):
            return

        def once() -> bool:
            with torch.inference_mode():
                work()
            return True

        self.queue(once)

    def copy(self, copies: Sequence[Copy]) -> None:
        if self._into_graph(lambda inside: inside.copy(copies)):
            return
        for one_copy in copies if self.gpu is not None else ():
            self.device.memory.assert_reached(self.gpu, one_copy.target, one_copy.nbytes)
            self.device.memory.assert_reached(self.gpu, one_copy.source, one_copy.nbytes)
        pieces = self.device.world.torn(copies)

        def one() -> bool:
            if pieces:
                target, source, nbytes = pieces.pop()
                ctypes.memmove(target, source, nbytes)
            return not pieces

        self.queue(one)

    def wait(self, event: Any) -> None:
        if (graph := self.device.capturing) is not None:
            if event in graph.recorded:  # which is how a stream comes into a capture
                other, given = graph.recorded[event]
                graph.inside[self] = self.device.inner_stream(self)
                if graph.unjoined.get(other) == given:
                    del graph.unjoined[other]
            else:
                assert self not in graph.inside, "a captured stream waits for an event that is not of the capture"
        if self._into_graph(lambda inside: inside.wait(event)):
            return
        version = event.recorded
        if version:
            self.queue(lambda: True, lambda: version in event.happened)

    def record(self, event: Any) -> None:
        if self._into_graph(lambda inside: inside.record(event)):
            graph = self.device.capturing
            assert graph is not None
            if not event.timed:
                graph.recorded[event] = self, len(graph.given)
            return
        event.recorded += 1
        version = event.recorded

        def happen() -> bool:
            event.happened.add(version)
            event.at_ns = time.monotonic_ns()
            return True

        self.queue(happen)

    def uses(self, tensor: Tensor) -> None:
        del tensor  # here Python keeps what is referred to, and queued work refers to it

    def write_value(self, address: int, value: int) -> None:
        assert self.device.capturing is None, "a number is frozen in a graph"
        word = ctypes.c_uint32.from_address(address)

        def write() -> bool:
            word.value = value
            return True

        self.queue(write)

    def wait_value(self, address: int, value: int) -> None:
        assert self.device.capturing is None, "a number is frozen in a graph"
        word = ctypes.c_uint32.from_address(address)
        self.queue(lambda: True, lambda: (word.value - value) % 2**32 < 2**31)

    def replay(self, graph: Any) -> None:
        assert graph.complete
        assert self.device.capturing is None
        begin = StandInEvent()
        self.record(begin)
        for inside in graph.inside.values():
            inside.wait(begin)
        for stream, give in graph.given:
            give(graph.inside[stream])
        for inside in graph.inside.values():
            end = StandInEvent()
            inside.record(end)
            self.wait(end)


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
        self.capturing: StandInGraph | None = None
        self.at_work = False
        """A command of one of its streams runs now, and may queue others."""
        self._inner: dict[StandInStream, StandInStream] = {}

    def inner_stream(self, outer: StandInStream) -> StandInStream:
        """What graphs run a captured stream's part on. One for all, as they are replayed on one stream."""
        if outer not in self._inner:
            self._inner[outer] = self.stream(f"graph's {outer.name}")
        return self._inner[outer]

    @contextmanager
    def capture(self, stream: Any, after: Any = None) -> Iterator[StandInGraph]:
        assert self.capturing is None
        assert after is None or after.complete
        graph = self.capturing = StandInGraph()
        graph.inside[stream] = self.inner_stream(stream)
        yield graph
        assert set(graph.unjoined) <= {stream}, f"not joined: {set(graph.unjoined) - {stream}}"
        self.capturing, graph.complete = None, True

    def stream_on(self, gpu: int, name: str) -> StandInStream:
        return self.stream(f"{name} on {gpu} of", gpu)

    def stream(self, name: str, gpu: int | None = None) -> StandInStream:
        made = StandInStream(f"{name} {self.rank}", self, gpu)
        self.streams.append(made)
        self.world.actors.append(made)
        return made

    def why_no_values(self) -> str | None:
        return None

    def event(self, timed: bool = False) -> StandInEvent:
        return StandInEvent(timed)

    def hold(self, streams: Sequence[Any]) -> StandInGate:
        del streams
        self.gates.append(StandInGate())
        return self.gates[-1]

    def elapsed_us(self, first: Any, second: Any) -> float:
        return float(second.at_ns - first.at_ns) / 1e3

    def wait(self, event: Any) -> None:
        assert self.capturing is None, "the host waits while streams are captured"
        version = event.recorded
        if version:
            self.world.pause(self.rank, lambda: version in event.happened)

    def synchronize(self) -> None:
        assert self.capturing is None, "the host waits while streams are captured"
        self.world.pause(self.rank, lambda: not any(stream.commands for stream in self.streams))
