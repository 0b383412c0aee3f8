"""The process of one rank: `python -m dwdp_lab.execute.worker`, alone or under torchrun.

Reads RANK and WORLD_SIZE (set by torch's launcher) and the run folder and key (set by the session), connects
to the session first and loads torch after that, so that whatever goes wrong has a way to be told.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from pathlib import Path

from dwdp_lab.execute.channel import connect
from dwdp_lab.execute.launch import FOLDER_VARIABLE, KEY_VARIABLE
from dwdp_lab.execute.messages import Hello
from dwdp_lab.execute.rank_session import RankSession
from dwdp_lab.execute.run_folder import log_path, remove_run_folder, socket_path


def main() -> None:
    """Join the session and serve its orders until it ends."""
    try:
        rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        folder, key = Path(os.environ[FOLDER_VARIABLE]), bytes.fromhex(os.environ.pop(KEY_VARIABLE))
    except KeyError as missing:
        sys.exit(f"{missing} is not in the environment: ranks are started by dwdp_lab.execute.ranks.Ranks")
    try:
        _write_to(log_path(folder, rank))
        channel = connect(str(socket_path(folder)), key)
        channel.send(Hello(rank, ranks, os.getpid()))
    except (OSError, EOFError, multiprocessing.AuthenticationError) as error:
        remove_run_folder(folder)  # the session was gone before this rank came, so nobody else will
        sys.exit(f"rank {rank} cannot reach its session: {error}")
    session = RankSession(channel, rank, ranks, folder)
    try:
        from dwdp_lab.execute.serve import serve

        serve(session)
    except BaseException:
        session.report_failure()
        # the session reads the log, then ends the connection and with it this process
        threading.Event().wait()


def _write_to(log: Path) -> None:
    """Send this process's output to its own log, however it was started."""
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)


if __name__ == "__main__":
    main()
