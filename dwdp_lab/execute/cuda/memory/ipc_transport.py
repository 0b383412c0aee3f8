"""Peers' memory by CUDA IPC, where the driver exports no blocks: one allocation per rank, opened as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor

from dwdp_lab.execute.cuda.memory.driver_memory import tensor_over
from dwdp_lab.execute.cuda.memory.legacy_ipc import Ipc
from dwdp_lab.execute.cuda.memory.pages import up
from dwdp_lab.execute.cuda.memory.transport import IN_WORDS, Held
from dwdp_lab.execute.rank_session import RankSession


class IpcTransport:
    """Whole allocations, shared by CUDA IPC."""

    words = IN_WORDS["ipc"]
    composable = False

    def __init__(self, ipc: Ipc, device: torch.device, page: int) -> None:
        self.ipc = ipc
        self.device = device
        self.page = page

    def hold(self, stack: ExitStack, sizes: Sequence[int]) -> Held:
        return Held(self.keep(stack, sum(sizes)), ())

    def keep(self, stack: ExitStack, nbytes: int) -> int:
        # whole pages: a smaller one could share its page, and with it its handle, with something else
        address = self.ipc.allocate(up(nbytes, self.page))
        stack.callback(self.ipc.free, address)
        return address

    def exchange(
        self, stack: ExitStack, session: RankSession, own: Held, wanted: Mapping[int, Sequence[int]]
    ) -> dict[int, int]:
        exported, _ = session.gather("CUDA IPC handles", self.ipc.export(own.address))
        found = {}
        try:
            for peer in wanted:
                found[peer] = self.ipc.open(exported[peer])
                stack.callback(self.ipc.close, found[peer])
        finally:  # handles keep nothing alive on their way, so all wait here, also for one who could not open them
            session.gather("CUDA IPC handles opened", None)
        return found

    def tensor(self, address: int, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        return tensor_over(address, shape, dtype, self.device)
