"""The process group of strategies that have collectives. Ranks of other strategies never make one."""

from __future__ import annotations

import os
import socket

import torch
import torch.distributed as dist

from dwdp_lab.execute.rank_session import RankSession


def join_process_group(session: RankSession, backend: str = "gloo", device: torch.device | None = None) -> None:
    """Connect this rank to all others, once per process. All ranks must call this together.

    They meet through a file in the run folder, so that no port is fixed, and talk over loopback: ranks are on
    one host. A `device` connects its backend now, not with the first collective.
    """
    if dist.is_initialized():
        return
    if loopback := next((name for _, name in socket.if_nameindex() if name in ("lo", "lo0")), None):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", loopback)
    store = dist.FileStore(str(session.folder / "gloo"), session.ranks)  # type: ignore[attr-defined]
    dist.init_process_group(backend, store=store, rank=session.rank, world_size=session.ranks, device_id=device)
