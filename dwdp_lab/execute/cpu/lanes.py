"""One rank's program with a thread per lane: operations in order on each lane, events between lanes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from dwdp_lab.execute.garbage import no_collection
from dwdp_lab.program.operation import LANES, Lane, Op, awaited


class Times(NamedTuple):
    """When an operation began and ended, on the host's monotonic clock."""

    start_ns: int
    end_ns: int

    def since_us(self, zero_ns: int) -> tuple[float, float]:
        """Both, in microseconds from a moment of the same clock."""
        return (self.start_ns - zero_ns) / 1e3, (self.end_ns - zero_ns) / 1e3


class LaneRun:
    """One run of one program. Each operation that is waited for has an event, set when it has ended."""

    def __init__(
        self,
        ops: tuple[Op, ...],
        perform: Callable[[Op], None],
        done: Callable[[int, Op], None] | None = None,
    ) -> None:
        self.ops = ops
        self.perform = perform
        self.done = done
        self.waits = awaited(ops)
        self.events = {index: threading.Event() for waits in self.waits for index in waits}
        self.times: list[Times] = [Times(0, 0)] * len(ops)
        self._failure: BaseException | None = None
        self._changed = threading.Condition()
        self._running = 0

    def run(self, start_ns: int) -> list[Times]:
        """Start all lanes at `start_ns`, and return each operation's times when the last lane has ended. No garbage is
        collected meanwhile.

        Raises the first lane's exception without waiting for the others: one may be in a collective that
        never ends.
        """
        with no_collection():
            self.start(start_ns, LANES)
            return self.wait()

    def start(self, start_ns: int, lanes: Sequence[Lane]) -> None:
        """Start a thread for each of these lanes; others are for the caller to take forward, with `operation`."""
        indices = {lane: [i for i, op in enumerate(self.ops) if op.lane == lane] for lane in lanes}
        threads = [
            threading.Thread(target=self._lane, args=(indices[lane], start_ns), name=lane, daemon=True)
            for lane in lanes
            if indices[lane]
        ]
        self._running = len(threads)
        for thread in threads:
            thread.start()

    def wait(self) -> list[Times]:
        """Each operation's times when the last of the threads has ended; raises as `run` does."""
        with self._changed:
            self._changed.wait_for(lambda: self._failure is not None or not self._running)
        if self._failure is not None:
            raise self._failure
        return self.times

    def _lane(self, indices: list[int], start_ns: int) -> None:
        try:
            while (left_ns := start_ns - time.monotonic_ns()) > 0:
                time.sleep(left_ns / 1e9)
            for index in indices:
                if not self.operation(index):
                    break
        except BaseException as error:
            self._failure = self._failure or error
            for event in self.events.values():
                event.set()
        with self._changed:
            self._running -= 1
            self._changed.notify_all()

    def operation(self, index: int) -> bool:
        """Do one operation once what it waits for has ended, in the caller's thread.

        False when another lane failed: what this one waited for may never have happened.
        """
        for number in self.waits[index]:
            self.events[number].wait()
        if self._failure is not None:
            return False
        op = self.ops[index]
        start_ns = time.monotonic_ns()
        try:
            self.perform(op)
        except Exception as error:
            error.add_note(f"while running {op}")
            raise
        self.times[index] = Times(start_ns, time.monotonic_ns())
        if index in self.events:
            self.events[index].set()
        if self.done is not None:
            self.done(index, op)
        return True
