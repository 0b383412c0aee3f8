"""The rank processes of a server's kernels."""

from __future__ import annotations

import time
from pathlib import Path

import psutil

PATIENCE_S = 60.0
"""Long, for machines that are busy: what is waited for is an event, not a speed."""


def rank_processes(folder: Path) -> list[int]:
    """The ranks of the kernels of the server whose files are in this folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        command, variables = process.info["cmdline"] or [], process.info["environ"] or {}
        if "dwdp_lab.execute.worker" in command and variables.get("JUPYTER_RUNTIME_DIR") == str(folder / "runtime"):
            found.append(process.pid)
    return found


def come_to(folder: Path, count: int) -> bool:
    """Wait until there are so many ranks. Returns whether that is so."""
    deadline = time.monotonic() + PATIENCE_S
    while len(rank_processes(folder)) != count and time.monotonic() < deadline:
        time.sleep(0.05)
    return len(rank_processes(folder)) == count


def gone(pids: list[int]) -> bool:
    """Wait until these processes have ended. Returns whether that is so."""
    deadline = time.monotonic() + PATIENCE_S
    while any(map(psutil.pid_exists, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(psutil.pid_exists, pids))
