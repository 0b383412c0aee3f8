"""What a rank does between start and end: run the session's orders, one after another."""

from __future__ import annotations

import sys

import torch

from dwdp_lab.execute.cpu.kept import Kept
from dwdp_lab.execute.cpu.run_order import run_order
from dwdp_lab.execute.messages import Ready
from dwdp_lab.execute.rank_session import RankSession

SWITCH_INTERVAL_S = 0.0005


def serve(session: RankSession) -> None:
    """Tell the session that this rank is ready, then obey. Returns only by an exception."""
    torch.set_num_threads(1)
    # a copy lane that wakes up should not wait 5 ms for the compute lane to let go of the interpreter
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    kept = Kept()
    # str: torch has a type of its own for versions, which would make the session load torch
    session.channel.send(Ready({"torch": str(torch.__version__)}))
    while True:
        order = session.orders.get()
        session.channel.send(run_order(session, kept, order))
