"""A rank's end of the conversation, in a process of its own: it ends with its connection."""

from __future__ import annotations

import subprocess
import sys

RANK = """
import threading
from multiprocessing import Pipe
from pathlib import Path
from dwdp_lab.execute.channel import Channel
from dwdp_lab.execute.rank_session import RankSession
there, here = Pipe()
session = RankSession(Channel(here), 0, 1, Path())
session.before_leaving += [lambda: 1 / 0, lambda: print("the last act", flush=True)]
{then}
threading.Event().wait()
"""


def _run(then: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", RANK.format(then=then)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_last_acts_are_done_when_the_connection_ends() -> None:
    ended = _run("there.close()")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "the last act\n", "")


def test_what_cannot_be_read_is_told_in_the_log() -> None:
    """The session may have announced files for which there is no room here."""
    ended = _run("there.send_bytes(b'no pickle')")
    assert (ended.returncode, ended.stdout) == (1, "the last act\n")
    assert "UnpicklingError" in ended.stderr
