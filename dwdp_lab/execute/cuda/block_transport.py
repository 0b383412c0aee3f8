"""Peers' memory as physical blocks of the driver: exported, sent, and mapped in the reader's own addresses."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor

from dwdp_lab.execute.cuda.device import HandleKind, Memory
from dwdp_lab.execute.cuda.mapped import adopted, created, range_of
from dwdp_lab.execute.cuda.store_plan import up
from dwdp_lab.execute.cuda.transport import IN_WORDS, Held
from dwdp_lab.execute.rank_session import RankSession

IN_FLIGHT = 512
"""Descriptors on their way at once, all ranks together: each is sent to every rank, and many systems allow a user 1024
that are sent and not yet received, and a process as many open files."""


class BlockTransport:
    """Blocks of driver memory, shared as descriptors or as fabric handles."""

    composable = True

    def __init__(self, memory: Memory, handles: HandleKind, page: int) -> None:
        self.memory = memory
        self.handles = handles
        self.page = page
        self.words = IN_WORDS[handles]

    def hold(self, stack: ExitStack, sizes: Sequence[int]) -> Held:
        blocks = tuple(created(stack, self.memory, size, self.handles) for size in sizes)
        return Held(range_of(stack, self.memory, blocks, sizes), blocks)

    def keep(self, stack: ExitStack, nbytes: int) -> int:
        size = up(nbytes, self.page)
        return range_of(stack, self.memory, [created(stack, self.memory, size)], [size])

    def exchange(
        self, stack: ExitStack, session: RankSession, own: Held, wanted: Mapping[int, Sequence[int]]
    ) -> dict[int, int]:
        counts, _ = session.gather("blocks of experts", len(own.blocks))
        theirs: dict[int, list[int]] = {peer: [] for peer in wanted}
        at_once = max(1, IN_FLIGHT // session.ranks**2)
        for first in range(0, max(counts), at_once):
            part = own.blocks[first : first + at_once]
            if self.handles == "fabric":
                self._adopt_fabric(stack, session, part, theirs)
            else:
                arriving = [max(0, min(at_once, count - first)) for count in counts]
                self._adopt_descriptors(stack, session, part, theirs, arriving)
        if self.handles == "fabric":
            session.gather("fabric handles adopted", None)  # unlike descriptors they keep nothing alive on their way
        return {peer: range_of(stack, self.memory, theirs[peer], sizes) for peer, sizes in wanted.items()}

    def tensor(self, address: int, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        return self.memory.tensor(address, shape, dtype)

    def _adopt_fabric(
        self, stack: ExitStack, session: RankSession, part: Sequence[int], theirs: dict[int, list[int]]
    ) -> None:
        exported, _ = session.gather("fabric handles", [self.memory.export(block, "fabric") for block in part])
        for peer, blocks in theirs.items():
            blocks += [adopted(stack, self.memory, handle) for handle in exported[peer]]

    def _adopt_descriptors(
        self,
        stack: ExitStack,
        session: RankSession,
        part: Sequence[int],
        theirs: dict[int, list[int]],
        arriving: Sequence[int],
    ) -> None:
        """`arriving`: how many descriptors come from each rank, in rank order."""
        with ExitStack() as files:
            mine = [_open_until_closed(files, self.memory.export(block, "descriptor")) for block in part]
            _, received = session.gather("descriptors", None, mine)
            for fd in received:
                files.callback(os.close, fd)
            coming = iter(received)
            for rank, count in enumerate(arriving):
                for _ in range(count):
                    fd = next(coming)
                    if rank in theirs:
                        theirs[rank].append(adopted(stack, self.memory, fd))


def _open_until_closed(files: ExitStack, exported: int | bytes) -> int:
    if isinstance(exported, bytes):
        raise TypeError("the driver exported bytes where a descriptor was asked for")
    files.callback(os.close, exported)
    return exported
