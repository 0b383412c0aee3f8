"""A started group of rank processes: starting all of them, talking to all of them, ending all of them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
import weakref
from collections.abc import Iterator
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, NoReturn

from dwdp_lab.execute.channel import Channel, Door
from dwdp_lab.execute.failures import RankFailed, RunStopped, how_it_ended
from dwdp_lab.execute.launch import Launcher, RankMachineName, launch
from dwdp_lab.execute.messages import Failed, Gather, Gathered, Hello, Ready
from dwdp_lab.execute.run_folder import log_tail, make_run_folder, remove_run_folder, socket_path

END_S = 2.0  # a rank ends within milliseconds of losing its connection; after this it is killed
ROOT_CAUSE_S = 0.3  # when one rank fails, the others may follow; wait this long to name the first


class RankGroup:
    """N rank processes, connected and ready after `start`. `close` leaves nothing behind."""

    def __init__(self, size: int, launcher: Launcher, machine: RankMachineName = "cpu") -> None:
        self.size = size
        self.launcher = launcher
        self.machine: RankMachineName = machine
        self.folder: Path = make_run_folder()
        self.processes: list[subprocess.Popen[bytes]] = []
        self.channels: dict[int, Channel] = {}
        self.pids: dict[int, int] = {}
        self.environment: dict[str, Any] = {}
        self._stopping = threading.Event()
        _groups.add(self)

    def start(self, timeout_s: float) -> None:
        """Start the processes and wait until each is connected and has loaded what it needs.

        Raises RankFailed, also when one takes longer than `timeout_s` to connect, and RunStopped when another thread
        calls `kill` meanwhile.
        """
        key = os.urandom(32)
        deadline = time.monotonic() + timeout_s
        door = Door(str(socket_path(self.folder)), key, self.size)
        try:
            launch(self.launcher, self.size, self.folder, key, self.processes, self.machine)
            while len(self.channels) < self.size:
                if (channel := door.let_in(0.05)) is not None:
                    self._welcome(channel)
                self._check_starting(deadline, timeout_s)
        finally:
            door.close()
        for rank, message in self.messages(until=Ready):
            if rank == 0:
                self.environment = message.environment

    def _welcome(self, channel: Channel) -> None:
        try:
            hello, _ = channel.receive()
        except (EOFError, OSError):  # it died at once; its process tells more
            channel.close()
            return
        if not isinstance(hello, Hello) or hello.world_size != self.size or hello.rank in self.channels:
            channel.close()
            raise RuntimeError(f"a process that is no rank of this group of {self.size} connected: {hello}")
        self.channels[hello.rank] = channel
        self.pids[hello.rank] = hello.pid

    def _check_starting(self, deadline: float, timeout_s: float) -> None:
        if self._stopping.is_set():
            raise RunStopped("the ranks were stopped while they started")
        for number, process in enumerate(self.processes):
            rank = None if self.launcher == "torchrun" else number
            if rank not in self.channels and process.poll() is not None:
                raise RankFailed(rank, how_it_ended(process.returncode), log_tail(self.folder, rank))
        missing = sorted(set(range(self.size)) - set(self.channels))
        if missing and time.monotonic() > deadline:
            raise RankFailed(
                missing[0],
                f"did not connect within {timeout_s:g} s (missing: {missing})",
                log_tail(self.folder, missing[0]) or log_tail(self.folder, None),
            )

    @property
    def alive(self) -> bool:
        """All processes run and are connected."""
        connected = len(self.channels) == self.size and not self._stopping.is_set()
        return connected and all(process.poll() is None for process in self.processes)

    def send(self, rank: int, message: object, fds: tuple[int, ...] = ()) -> None:
        """Send to one rank; raises RankFailed when it is gone."""
        try:
            self.channels[rank].send(message, fds)
        except OSError:
            self._raise_first_failure({rank: None})

    def messages(self, until: type) -> Iterator[tuple[int, Any]]:
        """(rank, message) as they come, until every rank has sent one of type `until`.

        What ranks gather among themselves is passed on here and not yielded. Raises RankFailed when a rank fails or
        dies, or all wait for each other at different places, and RunStopped when another thread calls `kill`.
        """
        talking = dict(self.channels)
        gathering: dict[str, dict[int, tuple[Any, list[int]]]] = {}
        try:
            while talking:
                for rank in _speaking(talking, None):
                    try:
                        message, fds = talking[rank].receive()
                    except (EOFError, OSError):
                        self._raise_first_failure({rank: None})
                    if isinstance(message, Failed):
                        self._raise_first_failure({rank: message})
                    elif isinstance(message, Gather):
                        parts = gathering.setdefault(message.name, {})
                        parts[rank] = message.value, fds
                        if len(parts) == self.size:
                            self._answer(message.name, gathering.pop(message.name))
                    else:
                        yield rank, message
                        if isinstance(message, until):
                            del talking[rank]
                    if gathering and sum(map(len, gathering.values())) == len(talking):
                        self._raise_parted(gathering)
        finally:
            for parts in gathering.values():
                _close_files(parts)

    def _answer(self, name: str, parts: dict[int, tuple[Any, list[int]]]) -> None:
        answer = Gathered(name, tuple(parts[rank][0] for rank in range(self.size)))
        files = tuple(fd for rank in range(self.size) for fd in parts[rank][1])
        try:
            for rank in range(self.size):
                self.send(rank, answer, files)
        finally:
            _close_files(parts)

    def _raise_first_failure(self, failures: dict[int, Failed | None]) -> None:
        """Raise for the rank that failed first; `failures` has None for a rank whose connection ended."""
        if self._stopping.is_set():
            raise RunStopped("the ranks were stopped while they ran")
        deadline = time.monotonic() + ROOT_CAUSE_S
        while (left := deadline - time.monotonic()) > 0:
            talking = {rank: channel for rank, channel in self.channels.items() if rank not in failures}
            for rank in _speaking(talking, left):
                try:
                    message, fds = talking[rank].receive()
                except (EOFError, OSError):
                    failures[rank] = None
                    continue
                _close_files({rank: (None, fds)})
                if isinstance(message, Failed):
                    failures[rank] = message
        # a rank that died is the cause of what the others raise, not the other way round
        rank, failure = min(failures.items(), key=lambda item: item[1].at_ns if item[1] else 0)
        text = self._how_died(rank) if failure is None else failure.traceback_text
        raise RankFailed(rank, text, log_tail(self.folder, rank))

    def _raise_parted(self, gathering: dict[str, dict[int, tuple[Any, list[int]]]]) -> NoReturn:
        """Nobody can go on: raise for the rank that is where the fewest are."""
        places = "; ".join(f"{name!r}: {sorted(parts)}" for name, parts in gathering.items())
        fewest = min(gathering.values(), key=lambda parts: len(parts))
        rank = min(fewest)
        raise RankFailed(rank, f"ranks wait for each other at different places ({places})", log_tail(self.folder, rank))

    def _how_died(self, rank: int) -> str:
        if self.launcher == "torchrun":
            return "its process ended (torchrun's log follows)\n" + log_tail(self.folder, None)
        try:
            return how_it_ended(self.processes[rank].wait(END_S))
        except subprocess.TimeoutExpired:
            return "closed its connection"

    def kill(self) -> None:
        """End the processes now. Any thread may call this; one that talks to the ranks gets RunStopped."""
        self._stopping.set()
        if self.launcher == "torchrun" and len(self.pids) == self.size:
            for pid in self.pids.values():  # the agent then sees them end, and ends too
                _kill(pid, None)
            return
        for process in self.processes:
            _kill(process.pid, process)

    def forget(self) -> None:
        """In a forked child: give up the connections, which would keep the ranks when the caller is killed."""
        for channel in self.channels.values():
            channel.close()
        self.channels, self.pids, self.processes = {}, {}, []
        self.folder = Path()  # the caller's, not ours to remove
        self._stopping.set()

    def close(self) -> None:
        """End the processes, wait for them, and remove the folder. May be called again."""
        self._stopping.set()
        if len(self.channels) < self.size:
            self.kill()  # who is not connected yet has no connection to lose
        for channel in self.channels.values():
            channel.close()  # a rank that loses its connection ends at once
        deadline = time.monotonic() + END_S
        for process in self.processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _kill(process.pid, process)
                process.wait()
        # under torchrun ranks are not our children: whoever is must have seen them end
        while any(_exists(pid) for pid in self.pids.values()) and time.monotonic() < deadline + END_S:
            time.sleep(0.005)
        remove_run_folder(self.folder)
        self.channels.clear()


_groups: weakref.WeakSet[RankGroup] = weakref.WeakSet()


def _forget_all() -> None:
    for group in list(_groups):
        group.forget()


os.register_at_fork(after_in_child=_forget_all)


def _speaking(channels: dict[int, Channel], timeout_s: float | None) -> list[int]:
    """The ranks that have sent something or gone, once there are any."""
    rank_of = {channel.fileno(): rank for rank, channel in channels.items()}
    ready = wait(list(rank_of), timeout_s)
    return [rank for fd, rank in rank_of.items() if fd in ready]


def _kill(pid: int, process: subprocess.Popen[bytes] | None) -> None:
    """SIGKILL, unless it has ended (a pid that was waited for may already be someone else's)."""
    if process is None or process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _close_files(parts: dict[int, tuple[Any, list[int]]]) -> None:
    for _, fds in parts.values():
        for fd in fds:
            os.close(fd)
