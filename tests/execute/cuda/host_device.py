"""Stand-ins for as much of a device as memory needs, and for CUDA IPC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from host_memory import HostMemory

from dwdp_lab.execute.cuda.gpu.device import Event, Gate, Stream


@dataclass
class HostDevice:
    """Every synchronisation is noted in the memory's log."""

    memory: HostMemory = field(default_factory=HostMemory)
    torch_device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def synchronize(self) -> None:
        self.memory.log.append("synchronize")

    def stream(self, name: str) -> Any:
        raise AssertionError(f"memory has no business with the stream {name}")

    def stream_on(self, gpu: int, name: str) -> Any:
        raise AssertionError(f"memory has no business with the stream {name} on GPU {gpu}")

    def why_no_values(self) -> str | None:
        raise AssertionError("memory has no business with streams")

    def event(self, timed: bool = False) -> Any:
        raise AssertionError(f"memory has no business with events (timed: {timed})")

    def hold(self, streams: Sequence[Stream]) -> Gate | None:
        raise AssertionError(f"memory has no business with {len(streams)} streams")

    def elapsed_us(self, first: Event, second: Event) -> float:
        raise AssertionError(f"memory has no business with events ({first}, {second})")

    def wait(self, event: Event) -> None:
        raise AssertionError(f"memory has no business with events ({event})")


class HostIpc:
    """A stand-in for CUDA IPC: a handle is the name of a memory file."""

    def __init__(self) -> None:
        self.memory = HostMemory(offered=("fabric",))
        self.own: dict[int, tuple[int, int]] = {}
        self.opened: dict[int, tuple[int, int]] = {}

    def allocate(self, nbytes: int) -> int:
        block = self.memory.create(nbytes, "fabric")
        address = self.memory.reserve(nbytes)
        self.memory.map(address, nbytes, block)
        self.own[address] = nbytes, block
        return address

    def free(self, address: int) -> None:
        self._give_back(address, *self.own.pop(address))

    def export(self, address: int) -> bytes:
        exported = self.memory.export(self.own[address][1], "fabric")
        assert isinstance(exported, bytes)
        return exported

    def open(self, exported: bytes) -> int:
        block = self.memory.adopt(exported)
        nbytes = self.memory.blocks[block].nbytes
        address = self.memory.reserve(nbytes)
        self.memory.map(address, nbytes, block)
        self.opened[address] = nbytes, block
        return address

    def close(self, address: int) -> None:
        self._give_back(address, *self.opened.pop(address))

    def _give_back(self, address: int, nbytes: int, block: int) -> None:
        self.memory.unmap(address, nbytes)
        self.memory.free(address, nbytes)
        self.memory.release(block)
