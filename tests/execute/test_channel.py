from __future__ import annotations

import multiprocessing
import os
import socket
import threading
from pathlib import Path

import pytest

from dwdp_lab.execute.channel import Channel, Door, connect

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
