"""Two ranks as two processes that meet over a Unix socket, as rank processes do: nothing is shared but what is sent."""

from __future__ import annotations

import array
import multiprocessing
import os
import pickle
import socket
import struct
import traceback
from collections.abc import Callable, Sequence
from typing import Any

Work = Callable[["PairSession", Any], Any]
"""(session, argument) to something that can be pickled; a function that another process can import."""

SUCCESS, CAUSE, CONSEQUENCE = range(3)


class PairSession:
    """One rank's end, as RankSession has it."""

    ranks = 2

    def __init__(self, rank: int, line: socket.socket) -> None:
        self.rank = rank
        self.line = line

    def gather(self, name: str, value: Any, fds: Sequence[int] = ()) -> tuple[tuple[Any, ...], list[int]]:
        mine = pickle.dumps((name, value, len(fds)))
        # no rank sends while the other does, so neither fills the line and blocks
        for turn in range(2):
            if turn == self.rank:
                self.line.sendall(struct.pack("<Q", len(mine)) + mine)
                own = [self._send(fd) for fd in fds]
            else:
                (length,) = struct.unpack("<Q", self._receive(8))
                other_name, theirs, count = pickle.loads(self._receive(length))
                assert other_name == name, (other_name, name)
                other = [self._receive_file() for _ in range(count)]
        return (value, theirs) if self.rank == 0 else (theirs, value), own + other if self.rank == 0 else other + own

    def _send(self, fd: int) -> int:
        socket.send_fds(self.line, [b"f"], [fd])
        return os.dup(fd)

    def _receive(self, nbytes: int) -> bytes:
        found = b""
        while len(found) < nbytes:
            part = self.line.recv(nbytes - len(found))
            if not part:
                raise EOFError("the other rank has ended")
            found += part
        return found

    def _receive_file(self) -> int:
        _, ancillary, _, _ = self.line.recvmsg(1, socket.CMSG_SPACE(4))
        found = array.array("i")
        found.frombytes(ancillary[0][2][:4])
        return found[0]


def run_pair(work: Work, argument: Any, timeout_s: float = 100) -> list[Any]:
    """What `work` returns on each rank. Raises AssertionError with the tracebacks of ranks that failed."""
    spawn = multiprocessing.get_context("spawn")
    lines = socket.socketpair()
    pipes = [spawn.Pipe(duplex=False) for _ in range(2)]
    processes = [
        spawn.Process(target=_run, args=(work, argument, rank, lines[rank], pipes[rank][1]), daemon=True)
        for rank in range(2)
    ]
    try:
        for process in processes:
            process.start()
        for line in lines:
            line.close()
        for _, sender in pipes:
            sender.close()
        results = []
        for receiver, _ in pipes:
            assert receiver.poll(timeout_s), "a rank says nothing"
            results.append(receiver.recv())
    finally:
        for process in processes:
            process.join(10)
            if process.is_alive():
                process.kill()
    failures = sorted(result for result in results if result[0] != SUCCESS)
    assert not failures, "\n".join(text for _, text in failures)
    return [result for _, result in results]


def _run(work: Work, argument: Any, rank: int, line: socket.socket, sender: Any) -> None:
    try:
        outcome = SUCCESS, work(PairSession(rank, line), argument)
    except (EOFError, ConnectionError):
        outcome = CONSEQUENCE, f"rank {rank}: {traceback.format_exc()}"
    except BaseException:
        outcome = CAUSE, f"rank {rank}: {traceback.format_exc()}"
    sender.send(outcome)
