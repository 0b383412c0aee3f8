"""A peer process: its memory is seen here, also while it stands still, and it never outlives what it belongs to."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from dwdp_lab.teach.peer import Peer

pytestmark = pytest.mark.ranks


def ends(pid: int, within_s: float = 30.0) -> bool:
    until = time.monotonic() + within_s
    while time.monotonic() < until and psutil.pid_exists(pid):
        if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return not psutil.pid_exists(pid)


def test_what_it_writes_is_seen_without_a_copy() -> None:
    with Peer(10_000) as peer:
        seen = peer.memory.tensor(0, (10_000,), torch.uint8)
        assert int(seen.sum()) == 0
        peer.fill(100, 50, 3)
        assert seen[99:151].tolist() == [0, *[3] * 50, 0]
        peer.fill(0, 10_000, 255)
        assert bool((seen == 255).all())


def test_it_is_read_while_it_stands_still_and_answers_late() -> None:
    with Peer(64) as peer:
        peer.fill(0, 64, 5)
        seen = peer.memory.tensor(0, (64,), torch.uint8)
        with peer.stopped():
            assert not peer.answers(within_s=0.05)
            assert psutil.Process(peer.pid).status() == psutil.STATUS_STOPPED
            assert seen.tolist() == [5] * 64
        peer.fill(0, 1, 9)  # the answer that is late does not count for this one
        assert seen[:2].tolist() == [9, 5]
        assert peer.answers(within_s=30.0)


def test_close_ends_it_and_may_be_called_again() -> None:
    peer = Peer(64)
    pid = peer.pid
    peer.close()
    peer.close()
    assert ends(pid)


def test_a_peer_that_is_dropped_ends() -> None:
    pid = Peer(64).pid
    assert ends(pid)


def test_it_ends_when_its_session_is_killed() -> None:
    code = (
        "import sys, time; from dwdp_lab.teach.peer import Peer; p = Peer(64); print(p.pid, flush=True); time.sleep(99)"
    )
    session = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert session.stdout is not None
    pid = int(session.stdout.readline())
    session.kill()
    session.wait()
    session.stdout.close()
    assert ends(pid)


def test_a_peer_that_died_says_so() -> None:
    with Peer(64) as peer:
        os.kill(peer.pid, 9)
        assert ends(peer.pid)
        with pytest.raises(OSError, match=r"the peer process ended|Broken pipe|reset"):
            peer.fill(0, 1, 1)


def test_what_lies_in_the_folder_is_not_taken_for_python_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "signal.py").write_text("raise SystemExit('not this one')")
    (tmp_path / "random.py").write_text("raise SystemExit('nor this one')")
    monkeypatch.chdir(tmp_path)
    with Peer(64) as peer:
        peer.fill(0, 1, 7)
        assert peer.memory.tensor(0, (1,), torch.uint8).tolist() == [7]
