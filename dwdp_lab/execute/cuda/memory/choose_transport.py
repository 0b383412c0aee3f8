"""Which transport a group uses: the first that works on all its ranks when tried with a real small allocation.

Drivers report what they could do, not what they will: fabric handles are offered where making one fails, and a
container may forbid what its driver can do.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

import torch

from dwdp_lab.execute.cuda.gpu.device import HandleKind, Memory
from dwdp_lab.execute.cuda.gpu.driver_calls import DriverError
from dwdp_lab.execute.cuda.memory.block_transport import BlockTransport
from dwdp_lab.execute.cuda.memory.ipc_transport import IpcTransport
from dwdp_lab.execute.cuda.memory.legacy_ipc import Ipc
from dwdp_lab.execute.cuda.memory.mapped import adopted, created, range_of
from dwdp_lab.execute.cuda.memory.transport import IN_WORDS, Transport, TransportName
from dwdp_lab.execute.rank_session import RankSession


class Trial(NamedTuple):
    """Whether a transport works here: `failure` is None, or why not."""

    name: TransportName
    failure: str | None

    def __str__(self) -> str:
        return f"{IN_WORDS[self.name]}: {self.failure or 'works'}"


class NoTransport(RuntimeError):  # noqa: N818 - it reads as what it reports
    """No way to reach peers' memory works on all ranks."""


def trials(memory: Memory, ipc: Ipc | None) -> tuple[Trial, ...]:
    """Every transport, tried on this device, the preferred first."""
    return (
        _trial("descriptor", lambda: _try_blocks(memory, "descriptor")),
        _trial("fabric", lambda: _try_blocks(memory, "fabric")),
        Trial("ipc", "not tried") if ipc is None else _trial("ipc", lambda: _try_ipc(ipc, memory.granularity)),
    )


def choose_transport(session: RankSession, memory: Memory, ipc: Ipc | None, device: torch.device) -> Transport:
    """The same transport on every rank; all ranks call this together. Raises NoTransport."""
    gathered, _ = session.gather("transports", (trials(memory, ipc), memory.granularity))
    page = max(granularity for _, granularity in gathered)
    everyone = [{trial.name: trial.failure for trial in of_rank} for of_rank, _ in gathered]
    working = [name for name in everyone[0] if all(rank[name] is None for rank in everyone)]
    if not working:
        reasons = [
            f"rank {rank}, {Trial(name, failure)}"
            for rank, failures in enumerate(everyone)
            for name, failure in failures.items()
            if failure is not None
        ]
        raise NoTransport(
            "ranks cannot share GPU memory: no way works on all of them. " + "; ".join(reasons) + ". Take "
            "--machine cpu, or a driver and container that allow one of them"
        )
    if working[0] == "ipc" and ipc is not None:
        return IpcTransport(ipc, device, page)
    return BlockTransport(memory, "fabric" if working[0] == "fabric" else "descriptor", page)


def _trial(name: TransportName, attempt: Callable[[], None]) -> Trial:
    try:
        attempt()
    except (DriverError, OSError) as error:
        return Trial(name, str(error))
    return Trial(name, None)


def _try_blocks(memory: Memory, handles: HandleKind) -> None:
    size = memory.granularity
    with ExitStack() as stack:
        block = created(stack, memory, size, handles)
        exported = memory.export(block, handles)
        if isinstance(exported, int):
            stack.callback(os.close, exported)
        range_of(stack, memory, [adopted(stack, memory, exported)], [size])


def _try_ipc(ipc: Ipc, size: int) -> None:
    # a process cannot open its own handle, so this is as far as it can be tried alone
    address = ipc.allocate(size)
    try:
        ipc.export(address)
    finally:
        ipc.free(address)
