"""Running the parts of `bench all`, each in a process of its own: what fails or takes too long costs only itself.

No torch.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from dwdp_lab.measure.all_parts import Part

GRACE_S = 20.0
"""From asking a part to stop until it is killed: by then it has written what it knows, and its ranks are gone."""
PACKAGES = str(Path(__file__).parents[2])
Status = Literal["done", "failed", "stopped", "left out"]


class Outcome(NamedTuple):
    """How a part ended. `stopped` and `left out`: the time was up. `last_words` are the last lines it printed."""

    part: Part
    status: Status
    seconds: float
    last_words: str = ""


def run_parts(
    parts: Sequence[Part], folder: Path, seconds: float | None = None, say: Callable[[Part], None] | None = None
) -> Iterator[Outcome]:
    """Run one part after the other in this folder, which gets a NAME.log of each; yields as each ends.

    After `seconds` in all a part is asked to stop, and those after it are left out. An interrupt ends the part that
    runs, and is raised.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    for part in parts:
        began = time.monotonic()
        if deadline is not None and began >= deadline:
            yield Outcome(part, "left out", 0.0)
            continue
        if say is not None:
            say(part)
        with open(folder / f"{part.name}.log", "w+", encoding="utf-8", errors="replace") as log:
            status = _run(part, folder, log.fileno(), deadline)
            log.seek(0)
            lines = [line.rstrip() for line in log if line.strip()]
        yield Outcome(part, status, time.monotonic() - began, "\n".join(lines[-5:]))


def _run(part: Part, folder: Path, log: int, deadline: float | None) -> Status:
    given = os.environ.get("PYTHONPATH")
    process = subprocess.Popen(
        # -P: a file called random.py in the folder must not become the standard library's
        [sys.executable, "-P", "-m", "dwdp_lab.cli.main", *part.words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([PACKAGES, *([given] if given else [])]), "COLUMNS": "160"},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # an interrupt reaches it once, from here
    )
    try:
        status = process.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        _stop(process)
        return "stopped"
    except BaseException:
        _stop(process)
        raise
    return "done" if status == 0 else "failed"


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_S)
    process.kill()  # nothing to one that has ended
    process.wait()
