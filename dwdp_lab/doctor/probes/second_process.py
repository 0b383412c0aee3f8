"""A second process to share memory with, connected as ranks are: a Unix socket in a private folder, and a key."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from dwdp_lab.execute.channel import Channel, Door, connect
from dwdp_lab.execute.run_folder import make_run_folder, remove_run_folder, socket_path

KEY_VARIABLE = "DWDP_DOCTOR_KEY"


@contextmanager
def second_process(module: str, *arguments: str) -> Iterator[Channel]:
    """Start `python -m module SOCKET arguments...`, which calls `join`. It ends with our process group."""
    folder, key = make_run_folder(), os.urandom(32)
    path = str(socket_path(folder))
    door = Door(path, key, 1)
    try:
        peer = subprocess.Popen(
            [sys.executable, "-P", "-m", module, path, *arguments], env={**os.environ, KEY_VARIABLE: key.hex()}
        )
        channel = None
        while channel is None:
            channel = door.let_in(0.1)
            if channel is None and peer.poll() is not None:
                raise RuntimeError(f"the second process ended with exit code {peer.returncode}")
        yield channel
        channel.close()
        peer.wait()
    finally:
        door.close()
        remove_run_folder(folder)


def join(path: str) -> Channel:
    """The second process's end."""
    return connect(path, bytes.fromhex(os.environ[KEY_VARIABLE]))
