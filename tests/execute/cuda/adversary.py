"""An adversary in place of GPUs: it runs what is queued on all ranks' streams in any order that CUDA would allow.

All ranks live in one process, each with a thread for its host code; one thread or one piece of queued work runs at a
time, and a seeded chooser picks which. The same seed gives the same schedule.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from stand_in_device import Actor, StandInStream

from dwdp_lab.execute.cuda.gpu.device import Copy

HOSTS_CHANGE = 0.1
"""How often queueing lets another rank's host code go on."""

Choose = Callable[[Sequence["Actor"]], "Actor"]


class Deadlock(RuntimeError):  # noqa: N818 - it reads as what it is
    """Nothing can run any more, and not all is done."""


class Abandoned(RuntimeError):  # noqa: N818 - it reads as what it is
    """Another rank failed."""


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
        others = [] if only is None else [host for host in self.hosts if host is not only]
        candidates = [actor for actor in self.actors if actor not in others]  # queued work makes no streams
        while True:
            ready = [actor for actor in candidates if actor.ready()]
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
        if self._failure is None:  # else nobody gives turns any more, and who clean up must not wait for one
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
