"""A stand-in for GPUs: streams are queues, and an adversary runs what is queued in any order that CUDA would allow.

All ranks live in one process, each with a thread for its host code; one thread or one piece of queued work runs at a
time, and a seeded chooser picks which. Copies are torn in pieces that other work comes between, a batch's copies are
shuffled, a wait sees what was recorded when it was queued. The same seed gives the same schedule.
"""

from __future__ import annotations

import ctypes
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dwdp_lab.execute.cuda.device import Copy

HOSTS_CHANGE = 0.1
"""How often queueing lets another rank's host code go on."""

Choose = Callable[[Sequence["Actor"]], "Actor"]


class Deadlock(RuntimeError):  # noqa: N818 - it reads as what it is
    """Nothing can run any more, and not all is done."""


class Abandoned(RuntimeError):  # noqa: N818 - it reads as what it is
    """Another rank failed."""


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


class Host(Actor):
    """A rank's host code, at rest until `until` holds."""

    def __init__(self, rank: int) -> None:
        super().__init__(f"host {rank}")
        self.rank = rank
        self.until: Callable[[], bool] = lambda: True
        self.at_rest = True
        self.done = False
        self.turn = threading.Semaphore(0)

    def ready(self) -> bool:
        return self.at_rest and not self.done and self.until()

    def state(self) -> str:
        return f"{self.name} has {'ended' if self.done else 'to wait'}"


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


class World:
    """All ranks of a group: their host code, their streams, and who comes next."""

    def __init__(self, ranks: int, choose: Choose, dice: random.Random) -> None:
        self.hosts = [Host(rank) for rank in range(ranks)]
        self.actors: list[Actor] = [*self.hosts]
        self._choose = choose
        self._dice = dice
        self._failure: BaseException | None = None

    def torn(self, copies: Sequence[Copy]) -> list[Copy]:
        """The copies in pieces, shuffled."""
        pieces = []
        for target, source, nbytes in copies:
            cut = self._dice.randrange(nbytes + 1)
            pieces += [Copy(target, source, cut), Copy(target + cut, source + cut, nbytes - cut)]
        self._dice.shuffle(pieces)
        return [piece for piece in pieces if piece.nbytes]

    def pause(self, rank: int, until: Callable[[], bool] = lambda: True) -> None:
        """Called by a rank's thread: others may go on, and this one when `until` holds and it is chosen."""
        me = self.hosts[rank]
        me.until, me.at_rest = until, True
        self._pass_on(me)
        me.at_rest = False

    def may_pause(self, rank: int) -> None:
        """Queued work may come first; now and then another host, which costs the test a change of threads."""
        if self._dice.random() < HOSTS_CHANGE:
            self.pause(rank)
        else:
            me = self.hosts[rank]
            me.until, me.at_rest = lambda: True, True
            self._pass_on(me, alone=True)
            me.at_rest = False

    def _pass_on(self, me: Host | None, alone: bool = False) -> None:
        """Run queued work until the chooser picks a host, and let that one go on. Returns when it is `me`'s turn."""
        try:
            chosen = self._next_host(me if alone else None)
        except BaseException as failure:
            self._fail(failure)
            raise Abandoned(str(failure)) from failure
        if chosen is me:
            return
        if chosen is not None:
            chosen.turn.release()
        if me is not None:
            self._await_turn(me)

    def _next_host(self, only: Host | None) -> Host | None:
        """None when all have ended."""
        left_out = [host for host in self.hosts if only is not None and host is not only]
        while True:
            ready = [actor for actor in self.actors if actor not in left_out and actor.ready()]
            if not ready:
                if all(host.done for host in self.hosts):
                    return None
                raise Deadlock(", ".join(actor.state() for actor in self.actors))
            chosen = self._choose(ready)
            if isinstance(chosen, Host):
                return chosen
            assert isinstance(chosen, StandInStream)
            chosen.step()

    def _await_turn(self, me: Host) -> None:
        me.turn.acquire()
        if self._failure is not None:
            raise Abandoned(str(self._failure)) from self._failure

    def _fail(self, failure: BaseException) -> None:
        self._failure = self._failure or failure
        for host in self.hosts:
            host.turn.release()

    def run(self, work: Callable[[int], Any]) -> list[Any]:
        """Each rank's host code in a thread of its own; their results. Raises the first failure."""
        results: list[Any] = [None] * len(self.hosts)

        def live(host: Host) -> None:
            try:
                self._await_turn(host)
                host.at_rest = False
                results[host.rank] = work(host.rank)
                host.done = True
                self._pass_on(None)
            except Abandoned:
                pass
            except BaseException as failure:
                self._fail(failure)

        for host in self.hosts:
            host.done, host.at_rest, host.until = False, True, lambda: True
            host.turn = threading.Semaphore(0)
        threads = [threading.Thread(target=live, args=(host,), daemon=True) for host in self.hosts]
        for thread in threads:
            thread.start()
        with suppress(Abandoned):
            self._pass_on(None)
        for thread in threads:
            thread.join()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        return results


def by_lot(dice: random.Random) -> Choose:
    """Everyone has the same chance."""
    return dice.choice


def by_rank_of_priority(dice: random.Random, changes: float = 0.01) -> Choose:
    """Always the one of highest priority; now and then the first falls to the last place.

    A race needs one actor far behind another, which chance alone rarely brings about (probabilistic concurrency
    testing: Burckhardt et al., ASPLOS 2010).
    """
    order: dict[Actor, float] = {}

    def choose(ready: Sequence[Actor]) -> Actor:
        for actor in ready:
            order.setdefault(actor, dice.random())
        first = max(ready, key=lambda actor: order[actor])
        if dice.random() < changes:
            order[first] = min(order.values()) - dice.random()
        return first

    return choose


def chooser(seed: int) -> tuple[Choose, random.Random]:
    """Half of the seeds draw lots, half go by priority."""
    dice = random.Random(seed)
    return (by_lot(dice) if seed % 2 else by_rank_of_priority(dice, dice.choice((0.0, 0.003, 0.03)))), dice
