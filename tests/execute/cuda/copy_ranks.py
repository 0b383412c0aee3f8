"""Ranks on stand-in GPUs that meet by copies, whatever order the adversary takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from host_device import HostIpc
from stand_in_device import StandInDevice
from stand_in_group import StandInGroup, StandInMeeting

from dwdp_lab.execute.cuda.meetings.copy_meeting import CopyMeeting
from dwdp_lab.execute.cuda.meetings.open_mailboxes import OpenMailboxes
from dwdp_lab.execute.cuda.memory.block_transport import BlockTransport
from dwdp_lab.execute.cuda.memory.ipc_transport import IpcTransport
from dwdp_lab.execute.cuda.memory.transport import Transport, TransportName

PAGE = 4096
T = TypeVar("T")
Work = Callable[[CopyMeeting, StandInDevice], T]


def on_copying_ranks(
    ranks: int, seed: int, work: Work[T], place: int = 4096, first: int = 0, shared_by: TransportName = "descriptor"
) -> list[T]:
    """`work` on every rank; afterwards all memory must have been given back."""
    group = StandInGroup(ranks, seed, PAGE)
    ipcs = [HostIpc() for _ in range(ranks)]

    def transport(rank: int) -> Transport:
        device = group.devices[rank]
        if shared_by == "ipc":
            return IpcTransport(ipcs[rank], device.torch_device, PAGE)
        device.memory.offered = (shared_by,)
        return BlockTransport(device.memory, shared_by, PAGE)

    def live(rank: int) -> T:
        device = group.devices[rank]
        session: Any = group.sessions[rank]
        opened = OpenMailboxes(session, device, transport(rank), place, first)
        assert opened.boxes is not None, opened.failure
        underneath = StandInMeeting(group.world, group.agreement, rank)
        meeting = CopyMeeting(device, device.stream("push"), opened.boxes, underneath)
        with torch.inference_mode():
            result = work(meeting, device)
        opened.close(session)
        return result

    results = group.world.run(live)
    for memory in (*(device.memory for device in group.devices), *(ipc.memory for ipc in ipcs)):
        memory.assert_nothing_left()
    return cast("list[T]", results)
