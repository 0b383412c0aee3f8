"""Ranks as threads of the test's own process: each with its own device, meeting as rank processes do."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


class Meeting:
    """Where threads exchange values and open files. One that fails lets the others go too."""

    def __init__(self, ranks: int) -> None:
        self.ranks = ranks
        self.barrier = threading.Barrier(ranks, timeout=60)
        self.parts: dict[int, tuple[str, Any, list[int]]] = {}
        self.lock = threading.Lock()


class ThreadSession:
    """One rank's end, as RankSession has it."""

    def __init__(self, meeting: Meeting, rank: int) -> None:
        self.meeting = meeting
        self.rank = rank
        self.ranks = meeting.ranks
        self.names: list[str] = []

    def gather(self, name: str, value: Any, fds: Sequence[int] = ()) -> tuple[tuple[Any, ...], list[int]]:
        meeting = self.meeting
        self.names.append(name)
        sent = [os.dup(fd) for fd in fds]
        try:
            with meeting.lock:
                meeting.parts[self.rank] = name, value, sent
            meeting.barrier.wait()
            parts = [meeting.parts[rank] for rank in range(self.ranks)]
            assert {each for each, _, _ in parts} == {name}
            received = [os.dup(fd) for _, _, files in parts for fd in files]
            try:
                meeting.barrier.wait()  # nobody overwrites or closes what others still read
            except BaseException:
                for fd in received:
                    os.close(fd)
                raise
            return tuple(each for _, each, _ in parts), received
        finally:
            for fd in sent:
                os.close(fd)


def in_threads(ranks: int, work: Callable[[ThreadSession], T]) -> list[T]:
    """What `work` returns on each rank. Raises what the first rank to fail raised."""
    meeting = Meeting(ranks)
    results: dict[int, T] = {}
    failures: list[BaseException] = []

    def run(rank: int) -> None:
        try:
            results[rank] = work(ThreadSession(meeting, rank))
        except BaseException as error:
            with meeting.lock:
                failures.append(error)
            meeting.barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    causes = [error for error in failures if not isinstance(error, threading.BrokenBarrierError)]
    if failures:
        raise (causes or failures)[0]
    return [results[rank] for rank in range(ranks)]
