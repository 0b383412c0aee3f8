"""What start/stop cycles of rank processes leave behind. By hand, in tests/execute:

python -c "from start_stop_cycles import *; print(start_stop_cycles(50))"
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import NamedTuple

import psutil
from rank_scenarios import scenario

from dwdp_lab.execute.launch import Launcher
from dwdp_lab.execute.ranks import Ranks


class Cycles(NamedTuple):
    """What is left of the groups that were started, and what this process has more of than before."""

    processes: tuple[int, ...]
    folders: tuple[Path, ...]
    more_children: int
    more_open_files: int
    more_threads: int
    more_in_dev_shm: int
    """Other programs on the host may cause this too."""
    seconds_per_cycle: float

    @property
    def left_behind(self) -> bool:
        return bool(self.processes or self.folders or self.more_children or self.more_open_files or self.more_threads)


def start_stop_cycles(cycles: int, size: int = 2, launcher: Launcher = "processes", run: bool = True) -> Cycles:
    """Start a group, run DWDP and DEP on it (unless not `run`), stop it; so many times."""
    work = scenario(size, [[12]] * size)
    if run:  # the first run loads torch into this process, which opens files of its own
        with Ranks(size, launcher) as ranks:
            ranks.run(work)
    pids: list[int] = []
    folders: list[Path] = []
    before, began = _have(), time.monotonic()
    for _ in range(cycles):
        with Ranks(size, launcher) as ranks:
            assert ranks._group is not None
            pids += ranks.pids
            folders.append(ranks._group.folder)
            if run:
                ranks.run(work)
                ranks.run(work.with_strategy("dep"))
    seconds = (time.monotonic() - began) / cycles
    more = [after - count for after, count in zip(_have(), before, strict=True)]
    return Cycles(
        tuple(pid for pid in pids if psutil.pid_exists(pid)),
        tuple(folder for folder in folders if folder.exists()),
        *more,
        seconds_per_cycle=seconds,
    )


def _have() -> tuple[int, int, int, int]:
    me, named = psutil.Process(), Path("/dev/shm")
    return (
        len(me.children(recursive=True)),
        me.num_fds(),
        threading.active_count(),
        len(list(named.iterdir())) if named.is_dir() else 0,
    )
