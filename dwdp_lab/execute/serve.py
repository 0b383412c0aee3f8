"""What a rank does between start and end: run the session's orders and jobs, one after another."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from dwdp_lab.execute.garbage import keep_what_is_loaded
from dwdp_lab.execute.launch import MACHINE_VARIABLE
from dwdp_lab.execute.messages import Finished, Job, Order, Ready
from dwdp_lab.execute.perform import perform
from dwdp_lab.execute.rank_session import RankSession

SWITCH_INTERVAL_S = 0.0005


def serve(session: RankSession) -> None:
    """Tell the session that this rank is ready, then obey. Returns only by an exception."""
    torch.set_num_threads(1)
    # a copy lane that wakes up should not wait 5 ms for the compute lane to let go of the interpreter
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    environment, run_order = _start(session)
    keep_what_is_loaded()
    session.channel.send(Ready(environment))
    while True:
        order = session.orders.get()
        if isinstance(order, Job):
            session.channel.send(perform(session, order))
        else:
            session.channel.send(run_order(order))


def _start(session: RankSession) -> tuple[dict[str, Any], Callable[[Order], Finished]]:
    """What this rank says about where it runs, and how it runs an order."""
    if os.environ.get(MACHINE_VARIABLE) == "cuda":
        from dwdp_lab.execute.cuda.start import start

        return start(session)
    from dwdp_lab.execute.cpu.kept import Kept
    from dwdp_lab.execute.cpu.run_order import run_order

    # str: torch has a type of its own for versions, which would make the session load torch
    return {"torch": str(torch.__version__)}, partial(run_order, session, Kept())
