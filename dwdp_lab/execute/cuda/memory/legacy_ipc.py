"""CUDA IPC: memory of cudaMalloc's kind that other processes open by a handle of 64 bytes.

A handle names a whole allocation, so it travels with the offset of what is meant within it.
"""

from __future__ import annotations

import ctypes
import struct
from typing import Any, Protocol

import torch

from dwdp_lab.execute.cuda.gpu.driver_calls import call, load_driver, mebibytes

HANDLE_BYTES = 64  # CU_IPC_HANDLE_SIZE


class Ipc(Protocol):
    """Allocations that other processes of this host can open."""

    def allocate(self, nbytes: int) -> int:
        """New memory on this device; its address."""

    def free(self, address: int) -> None:
        """Give an allocation back. Peers that have it open must have closed it."""

    def export(self, address: int) -> bytes:
        """What a peer opens the memory at this address by."""

    def open(self, exported: bytes) -> int:
        """Where a peer's exported memory begins in this process."""

    def close(self, address: int) -> None:
        """Let go of what `open` returned."""


class DriverIpc:
    """CUDA IPC on GPU `index`. Raises ImportError and DriverError."""

    def __init__(self, index: int) -> None:
        self.index = index
        self._driver: Any = load_driver()
        self._opened: dict[int, int] = {}  # to the base of the peer's allocation
        torch.cuda.set_device(index)
        torch.cuda.synchronize(index)

    def allocate(self, nbytes: int) -> int:
        torch.cuda.empty_cache()  # what torch holds without using it is in the way
        return int(call(self._driver, "cuMemAlloc", nbytes, asked=f"{mebibytes(nbytes)} on GPU {self.index}"))

    def free(self, address: int) -> None:
        call(self._driver, "cuMemFree", self._driver.CUdeviceptr(address), asked=f"memory at {address:#x}")

    def export(self, address: int) -> bytes:
        asked = f"memory at {address:#x} of GPU {self.index}"
        pointer = self._driver.CUdeviceptr(address)
        handle = call(self._driver, "cuIpcGetMemHandle", pointer, asked=asked)
        base, _ = call(self._driver, "cuMemGetAddressRange", pointer, asked=asked)
        # the bindings give no other access to the bytes in all their versions
        return ctypes.string_at(handle.getPtr(), HANDLE_BYTES) + struct.pack("<Q", address - int(base))

    def open(self, exported: bytes) -> int:
        handle = self._driver.CUipcMemHandle()
        ctypes.memmove(handle.getPtr(), exported, HANDLE_BYTES)
        (offset,) = struct.unpack("<Q", exported[HANDLE_BYTES:])
        peers_too = self._driver.CUipcMem_flags.CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS
        asked = f"a peer's memory on GPU {self.index}"
        base = int(call(self._driver, "cuIpcOpenMemHandle", handle, int(peers_too), asked=asked))
        self._opened[base + offset] = base
        return base + int(offset)

    def close(self, address: int) -> None:
        base = self._driver.CUdeviceptr(self._opened.pop(address))
        call(self._driver, "cuIpcCloseMemHandle", base, asked=f"a peer's memory at {address:#x}")
