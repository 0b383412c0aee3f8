"""Stand-ins for a GPU's exportable memory, made of shared files, for the probe that hands a block over."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor

from dwdp_lab.execute.cpu.shared_memory import Mapping, shared_block


class FileMemory:
    """Blocks are shared files, so that the second process reads and writes the same bytes."""

    granularity = 2 << 20

    def __init__(self, device: int) -> None:
        self.device = device
        self.mappings: dict[int, Mapping] = {}

    def create(self, nbytes: int, handles: str | None = None) -> int:
        assert nbytes % self.granularity == 0
        assert handles == "descriptor"
        return shared_block(nbytes)

    def export(self, block: int, handles: str) -> int:
        assert handles == "descriptor"
        return os.dup(block)

    def adopt(self, exported: int) -> int:
        return os.dup(exported)

    def reserve(self, nbytes: int) -> int:
        return nbytes  # any number that is an address to `map` and `tensor`

    def map(self, address: int, nbytes: int, block: int) -> None:
        self.mappings[address] = Mapping(block, nbytes)

    def tensor(self, address: int, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        return self.mappings[address].tensor(0, tuple(shape), dtype)


class OtherMemory(FileMemory):
    """Pretends: what it adopts is a block of its own."""

    def adopt(self, exported: int) -> int:
        return shared_block(os.fstat(exported).st_size)


class RefusedMemory(FileMemory):
    """The second process cannot map, as on GPUs that may not reach each other."""

    def adopt(self, exported: int) -> int:
        raise RuntimeError(f"block {exported}: peer access is not supported between these two devices")
