"""How ranks reach each other's memory: decided once, by trying, and said in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from dwdp_lab.execute.rank_session import RankSession

TransportName = Literal["descriptor", "fabric", "ipc"]
IN_WORDS: dict[TransportName, str] = {
    "descriptor": "driver memory, shared by POSIX descriptors",
    "fabric": "driver memory, shared by fabric handles",
    "ipc": "CUDA IPC",
}


class Held(NamedTuple):
    """Memory of this rank that peers may map: where it begins here, and the handles of its blocks, if it has any."""

    address: int
    blocks: tuple[int, ...]


class Transport(Protocol):
    """One way to make memory that peers can read, and to read theirs. What it makes lasts until the stack closes."""

    words: str
    """What is in use, for provenance."""
    composable: bool
    """Whether pages of one allocation can be shown within another (the weight view `composite`)."""
    page: int
    """What sizes of blocks are multiples of."""

    def hold(self, stack: ExitStack, sizes: Sequence[int]) -> Held:
        """Memory that peers may map, made of blocks of these sizes, one after another."""

    def keep(self, stack: ExitStack, nbytes: int) -> int:
        """Memory for this rank alone; its address."""

    def exchange(
        self, stack: ExitStack, session: RankSession, own: Held, wanted: Mapping[int, Sequence[int]]
    ) -> dict[int, int]:
        """Map the wanted peers' memory (their blocks' sizes), each contiguously; the addresses by peer.

        All ranks call this together.
        """

    def tensor(self, address: int, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """A contiguous tensor over memory that this transport made."""
