from __future__ import annotations

import multiprocessing
import os
import pickle
import resource
import socket
import threading
from pathlib import Path

import pytest

from dwdp_lab.execute.channel import Channel, Door, FilesMissing, connect

KEY = b"k" * 32


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "session")


def joined(path: str) -> tuple[Channel, Channel]:
    """A session's and a rank's end of one connection."""
    door = Door(path, KEY, 1)
    ends: list[Channel] = []
    rank = threading.Thread(target=lambda: ends.append(connect(path, KEY)))
    rank.start()
    session = door.let_in(10)
    rank.join()
    door.close()
    assert session is not None
    return session, ends[0]


def test_messages_and_files_arrive_in_order(path: str) -> None:
    session, rank = joined(path)
    read_end, write_end = os.pipe()
    rank.send({"first": 1})
    rank.send("second", [write_end, read_end])
    rank.send("third")
    os.close(write_end)
    assert session.receive() == ({"first": 1}, [])
    message, (writer, reader) = session.receive()
    assert message == "second"
    assert not os.get_inheritable(writer)
    os.write(writer, b"through the pipe")
    assert os.read(reader, 100) == b"through the pipe"
    assert session.receive() == ("third", [])
    for fd in (read_end, writer, reader):
        os.close(fd)
    session.close()
    rank.close()


def test_the_end_of_the_other_side_is_noticed(path: str) -> None:
    session, rank = joined(path)
    rank.close()
    with pytest.raises(EOFError):
        session.receive()
    with pytest.raises(BrokenPipeError):
        session.send("anybody?")
    session.close()


def _some_of_announced_files(sender: Channel, announced: int, sent: list[int]) -> None:
    """What a process sends that dies in the middle of it."""
    sender._connection.send_bytes(pickle.dumps(("files", announced)))
    with socket.fromfd(sender.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as line:
        for fd in sent:
            socket.send_fds(line, [b"f"], [fd])


def test_files_of_a_process_that_dies_while_it_sends_them_are_closed(path: str) -> None:
    """They may be all that keeps memory of a GPU."""
    session, rank = joined(path)
    read_end, write_end = os.pipe()
    _some_of_announced_files(rank, 3, [write_end, write_end])
    os.close(write_end)
    rank.close()
    with pytest.raises(EOFError, match="while it was sending files"):
        session.receive()
    os.set_blocking(read_end, False)
    assert os.read(read_end, 1) == b"", "somebody has the other end open"
    os.close(read_end)
    session.close()


def test_a_process_without_room_for_files_says_so(path: str) -> None:
    session, rank = joined(path)
    with open(os.devnull, "rb") as file:
        _some_of_announced_files(rank, 3, [file.fileno()] * 3)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        # room for a copy of the socket and one file
        resource.setrlimit(resource.RLIMIT_NOFILE, (_above_two_free_ones(), limits[1]))
        with pytest.raises(FilesMissing, match="no free file descriptor"):
            session.receive()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    session.close()
    rank.close()


def _above_two_free_ones() -> int:
    """The limit of open files that leaves two."""
    two = [os.open(os.devnull, os.O_RDONLY) for _ in range(2)]
    for fd in two:
        os.close(fd)
    return max(two) + 1


def test_only_who_holds_the_key_is_let_in(path: str) -> None:
    door = Door(path, KEY, 2)
    refused: list[BaseException] = []

    def stranger() -> None:
        try:
            connect(path, b"another key")
        except (multiprocessing.AuthenticationError, EOFError, OSError) as error:
            refused.append(error)

    outside = threading.Thread(target=stranger)
    outside.start()
    assert door.let_in(10) is None
    outside.join()
    assert len(refused) == 1
    rank = threading.Thread(target=lambda: connect(path, KEY).close())
    rank.start()
    channel = door.let_in(10)
    rank.join()
    assert channel is not None
    channel.close()
    door.close()


def test_who_connects_and_says_nothing_does_not_hold_up_the_door(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Door, "AUTHENTICATION_S", 1)
    door = Door(path, KEY, 1)
    silent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    silent.connect(path)
    assert door.let_in(10) is None
    silent.close()
    assert door.let_in(0.01) is None
    door.close()
