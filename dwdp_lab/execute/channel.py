"""One authenticated connection between the session and a rank: messages, with open files attached if need be.

Messages are pickled, which is safe only because both ends prove that they hold the group's key before either
reads one (the challenge of `multiprocessing.connection`). File descriptors travel over the same Unix socket
(SCM_RIGHTS), so memory that ranks share needs no name in the file system.
"""

from __future__ import annotations

import array
import os
import pickle
import socket
import struct
import threading
from collections.abc import Sequence
from multiprocessing.connection import Client, Connection, answer_challenge, deliver_challenge
from typing import Any

Received = tuple[Any, list[int]]
"""A message and the file descriptors that came with it, which the receiver must close."""


class FilesMissing(RuntimeError):  # noqa: N818 - it reads as what it reports
    """Announced files did not come, although the other end is there. No OSError, which tells that it is gone."""


class Channel:
    """Messages in both directions. Any thread may send; one thread at a time may receive."""

    def __init__(self, connection: Connection[Any, Any]) -> None:
        self._connection = connection
        self._sending = threading.Lock()

    def fileno(self) -> int:
        """The socket's descriptor, to wait on."""
        return self._connection.fileno()

    def send(self, message: object, fds: Sequence[int] = ()) -> None:
        """Raises OSError when the other end is gone."""
        data = pickle.dumps((message, len(fds)), protocol=pickle.HIGHEST_PROTOCOL)
        with self._sending:
            self._connection.send_bytes(data)
            if fds:
                with socket.fromfd(self.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as line:
                    for fd in fds:
                        socket.send_fds(line, [b"f"], [fd])

    def receive(self) -> Received:
        """Raises EOFError or OSError when the other end is gone, and FilesMissing."""
        message, expected = pickle.loads(self._connection.recv_bytes())
        fds: list[int] = []
        if expected:
            try:
                with socket.fromfd(self.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as line:
                    for _ in range(expected):
                        fds.append(_receive_fd(line))
            except BaseException:  # who is left with them would keep what they stand for, such as memory of a GPU
                for fd in fds:
                    os.close(fd)
                raise
        return message, fds

    def close(self) -> None:
        self._connection.close()


def _receive_fd(line: socket.socket) -> int:
    item = array.array("i")
    data, ancillary, _, _ = line.recvmsg(1, socket.CMSG_SPACE(item.itemsize))
    if not data:
        raise EOFError("the other end closed while it was sending files")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            item.frombytes(content[: item.itemsize])
            os.set_inheritable(item[0], False)
            return item[0]
    raise FilesMissing(
        "a file was announced but did not come: this process may have no free file descriptor; raise its limit "
        "(ulimit -n)"
    )


class Door:
    """The session's listening socket. Only who holds the key is let in."""

    AUTHENTICATION_S = 5

    def __init__(self, path: str, key: bytes, backlog: int) -> None:
        self._key = key
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.bind(path)
            self._socket.listen(backlog)
        except BaseException:
            self._socket.close()
            raise

    def let_in(self, timeout_s: float) -> Channel | None:
        """The next rank to connect, or None when nobody (or nobody with the key) did in that time."""
        self._socket.settimeout(timeout_s)
        try:
            accepted, _ = self._socket.accept()
        except TimeoutError:
            return None
        accepted.setblocking(True)
        # a socket option instead of a Python timeout: Connection reads the bare descriptor
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", self.AUTHENTICATION_S, 0))
        connection: Connection[Any, Any] = Connection(accepted.detach())
        try:
            deliver_challenge(connection, self._key)
            answer_challenge(connection, self._key)
            with socket.fromfd(connection.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as line:
                line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 0))
        except Exception:  # whatever a stranger sends, the door stays open for the ranks
            connection.close()
            return None
        except BaseException:
            connection.close()
            raise
        return Channel(connection)

    def close(self) -> None:
        self._socket.close()


def connect(path: str, key: bytes) -> Channel:
    """A rank's way in. Raises OSError, EOFError or AuthenticationError when the session is not there."""
    return Channel(Client(path, family="AF_UNIX", authkey=key))
