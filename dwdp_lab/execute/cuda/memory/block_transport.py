"""Peers' memory as physical blocks of the driver: exported, sent, and mapped in the reader's own addresses."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor

from dwdp_lab.execute.cuda.gpu.device import HandleKind, Memory
from dwdp_lab.execute.cuda.memory.mapped import adopted, created, range_of
from dwdp_lab.execute.cuda.memory.pages import up
from dwdp_lab.execute.cuda.memory.transport import IN_WORDS, Held
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
        adopt = self._adopt_fabric if self.handles == "fabric" else self._adopt_descriptors
        theirs = adopt(stack, session, own.blocks, wanted)
        return {peer: range_of(stack, self.memory, theirs[peer], sizes) for peer, sizes in wanted.items()}

    def tensor(self, address: int, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        return self.memory.tensor(address, shape, dtype)

    def _adopt_fabric(
        self, stack: ExitStack, session: RankSession, own: Sequence[int], peers: Iterable[int]
    ) -> dict[int, list[int]]:
        exported, _ = session.gather("fabric handles", [self.memory.export(block, "fabric") for block in own])
        try:
            return {peer: [adopted(stack, self.memory, handle) for handle in exported[peer]] for peer in peers}
        finally:  # handles keep nothing alive on their way, so all wait here, also for one who could not adopt them
            session.gather("fabric handles adopted", None)

    def _adopt_descriptors(
        self, stack: ExitStack, session: RankSession, own: Sequence[int], peers: Iterable[int]
    ) -> dict[int, list[int]]:
        """As many at a time as may be on their way; they keep their blocks alive."""
        counts, _ = session.gather("blocks of experts", len(own))
        theirs: dict[int, list[int]] = {peer: [] for peer in peers}
        at_once = max(1, IN_FLIGHT // session.ranks**2)
        for first in range(0, max(counts), at_once):
            with ExitStack() as files:
                part = own[first : first + at_once]
                mine = [_open_until_closed(files, self.memory.export(block, "descriptor")) for block in part]
                _, received = session.gather("descriptors", None, mine)
                for fd in received:
                    files.callback(os.close, fd)
                coming = iter(received)
                for rank, count in enumerate(counts):
                    for fd in itertools.islice(coming, max(0, min(at_once, count - first))):
                        if rank in theirs:
                            theirs[rank].append(adopted(stack, self.memory, fd))
        return theirs


def _open_until_closed(files: ExitStack, exported: int | bytes) -> int:
    if isinstance(exported, bytes):
        raise TypeError("the driver exported bytes where a descriptor was asked for")
    files.callback(os.close, exported)
    return exported
