"""Starting rank processes: what a rank finds in its environment, and the two ways to start a group.

A rank is `python -m dwdp_lab.execute.worker` with the variables that torch's launcher sets (RANK, WORLD_SIZE,
LOCAL_RANK) and the three below. So the same module runs under torchrun too. Plain processes are the default
because they are ready in half the time: torchrun imports torch in its agent before it starts the ranks.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Literal

from dwdp_lab.execute.run_folder import log_path

FOLDER_VARIABLE = "DWDP_RUN_FOLDER"
KEY_VARIABLE = "DWDP_SESSION_KEY"
MACHINE_VARIABLE = "DWDP_MACHINE"
WORKER = "dwdp_lab.execute.worker"

Launcher = Literal["processes", "torchrun"]
RankMachineName = Literal["cpu", "cuda"]


def launch(
    launcher: Launcher,
    size: int,
    folder: Path,
    key: bytes,
    into: list[subprocess.Popen[bytes]],
    machine: RankMachineName = "cpu",
) -> None:
    """Start the group, adding each process to `into` as soon as it exists, so that a failure half way can be
    undone.

    `processes` adds one process per rank, in rank order; `torchrun` adds torch's agent, which starts the
    ranks.
    """
    environment = {
        **os.environ,
        FOLDER_VARIABLE: str(folder),
        KEY_VARIABLE: key.hex(),
        MACHINE_VARIABLE: machine,
        "OMP_NUM_THREADS": "1",  # a rank's lanes are its threads; more would make ranks compete for cores
        "MKL_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "PYTHONFAULTHANDLER": "1",
        "PYTHONUNBUFFERED": "1",
    }
    # -P: a file called random.py in the user's folder must not become the standard library's
    python = [sys.executable, "-P", "-m"]
    if launcher == "torchrun":
        command = [
            *(*python, "torch.distributed.run", "--standalone", "--nproc-per-node", str(size)),
            *("--log-dir", str(folder / "torchrun"), "-m", WORKER),
        ]
        into.append(_start(command, environment, folder, None))
        return
    for rank in range(size):
        mine = {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank)}
        into.append(_start([*python, WORKER], environment | mine, folder, rank))


def _start(command: list[str], environment: dict[str, str], folder: Path, rank: int | None) -> subprocess.Popen[bytes]:
    # a session of its own: the interrupt button of a notebook signals the kernel's whole process group
    with log_path(folder, rank).open("ab") as log:
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            close_fds=True,
        )
