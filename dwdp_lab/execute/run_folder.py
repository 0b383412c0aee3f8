"""The private folder of a group of ranks: the session's socket, the ranks' logs, gloo's meeting point."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

PREFIX = "dwdp-ranks-"
# a Unix socket's path may have 107 characters (103 on macOS); the folder's name and ours take about 40
LONGEST_PARENT = 60


def make_run_folder() -> Path:
    """A new folder that only this user can enter (mode 0700), short enough to hold a Unix socket."""
    parent = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent if len(parent) <= LONGEST_PARENT else "/tmp"))


def remove_run_folder(folder: Path) -> None:
    """Remove it with all it holds. Session and ranks may all do this, so what is already gone is fine."""
    if folder.name.startswith(PREFIX):  # the name reaches ranks by environment: never remove anything else
        shutil.rmtree(folder, ignore_errors=True)


def socket_path(folder: Path) -> Path:
    return folder / "session"


def log_path(folder: Path, rank: int | None) -> Path:
    """The log of a rank; None is the launcher's."""
    return folder / ("launcher.log" if rank is None else f"rank-{rank}.log")


def log_tail(folder: Path, rank: int | None, nbytes: int = 4096) -> str:
    """The last lines of a log, at most `nbytes`; empty when there are none."""
    try:
        with log_path(folder, rank).open("rb") as log:
            length = log.seek(0, 2)
            log.seek(max(0, length - nbytes))
            return log.read().decode(errors="replace")
    except OSError:
        return ""
