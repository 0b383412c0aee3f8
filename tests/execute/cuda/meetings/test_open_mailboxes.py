"""Mailboxes that one rank cannot reach: no rank has them then, and none is left waiting."""

from __future__ import annotations

from typing import Any

import pytest
from copy_ranks import PAGE
from host_device import HostIpc
from stand_in_group import StandInGroup

from dwdp_lab.execute.cuda.gpu.driver_calls import DriverError
from dwdp_lab.execute.cuda.meetings.open_mailboxes import OpenMailboxes
from dwdp_lab.execute.cuda.memory.block_transport import BlockTransport
from dwdp_lab.execute.cuda.memory.ipc_transport import IpcTransport
from dwdp_lab.execute.cuda.memory.transport import Transport, TransportName


def refused(*_: object) -> int:
    raise DriverError("cuIpcOpenMemHandle", "CUDA_ERROR_INVALID_DEVICE", "a peer's memory")


@pytest.mark.parametrize("shared_by", ["descriptor", "fabric", "ipc"])
def test_where_one_rank_cannot_map_its_peers_none_has_mailboxes(shared_by: TransportName) -> None:
    group = StandInGroup(3, page=PAGE)
    memories = [device.memory for device in group.devices]
    ipcs = [HostIpc() for _ in group.devices]
    for memory in memories:
        memory.offered = (shared_by,)

    def transport(rank: int) -> Transport:
        device: Any = group.devices[rank]
        if shared_by == "ipc":
            return IpcTransport(ipcs[rank], device.torch_device, PAGE)
        return BlockTransport(device.memory, shared_by, PAGE)

    def live(rank: int) -> str | None:
        session: Any = group.sessions[rank]
        opened = OpenMailboxes(session, group.devices[rank], transport(rank), PAGE)
        assert opened.boxes is None
        return opened.failure

    memories[1].adopt = refused  # type: ignore[method-assign]
    ipcs[1].open = refused  # type: ignore[method-assign]
    failures = group.world.run(live)
    assert set(failures) == {failures[0]}
    assert failures[0].startswith("rank 1: cuIpcOpenMemHandle (a peer's memory)")
    for memory in (*memories, *(ipc.memory for ipc in ipcs)):
        memory.assert_nothing_left()
