"""A process that keeps memory and lets this one see it: what a peer is to a rank, without anything else.

with Peer(1 << 20) as peer:
    peer.fill(0, 4096, 7)                       # the peer writes
    peer.memory.tensor(0, (4,), torch.uint8)    # this process reads the same pages
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from dwdp_lab.execute.cpu.shared_memory import Mapping

PATIENCE_S = 60.0


class Peer:
    """`memory` is the peer's block, mapped read-only here. The peer ends with `close`, or with this process."""

    def __init__(self, nbytes: int) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        # -P: a learner's file called signal.py beside the notebook must not become the standard library's
        command = [sys.executable, "-P", "-m", "dwdp_lab.teach.peer_process", str(theirs.fileno()), str(nbytes)]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], start_new_session=True)
        theirs.close()
        self._line = ours
        self._line.settimeout(PATIENCE_S)
        self._owed = 0
        self._end = weakref.finalize(self, _end, self._process, ours)
        _, fds, _, _ = socket.recv_fds(ours, 1, 1)
        if not fds:
            self._end()
            raise OSError(f"the peer process ended with status {self._process.poll()} before it gave its memory")
        self.fd = fds[0]
        """The descriptor of its memory, as it came through the socket."""
        self.memory = Mapping(self.fd, nbytes, writable=False)

    @property
    def pid(self) -> int:
        return self._process.pid

    def fill(self, offset: int, nbytes: int, value: int) -> None:
        """Let the peer write `value` (0 to 255) into its memory, and wait until it has."""
        self._line.sendall(json.dumps([offset, nbytes, value]).encode() + b"\n")
        self._owed += 1
        while self._owed:  # an answer that came too late for `answers` is still under way
            if self._line.recv(1) != b"d":
                raise OSError(f"the peer process ended with status {self._process.poll()}")
            self._owed -= 1

    def answers(self, within_s: float) -> bool:
        """Ask the peer for a sign of life."""
        self._line.settimeout(within_s)
        try:
            self.fill(0, 0, 0)
        except TimeoutError:
            return False
        finally:
            self._line.settimeout(PATIENCE_S)
        return True

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Freeze the peer: until the block ends it does not run a single instruction."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)  # until it stands still
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """End the peer and give its memory back; no tensor over it may be used after."""
        if self._end.alive:
            self._end()
            self.memory.close()
            os.close(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _end(process: subprocess.Popen[bytes], line: socket.socket) -> None:
    line.close()
    process.kill()
    process.wait()
