"""A stand-in for the driver's virtual memory: memory files mapped at fixed addresses, with the driver's rules enforced.

What the driver refuses, this refuses; what the driver leaves undefined (a use after unmapping) ends the process. It
knows which bytes are behind an address, so that tests can tell a shared block from a private one.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dwdp_lab.execute.cuda.gpu.device import HandleKind
from dwdp_lab.execute.cuda.gpu.driver_calls import DriverError
from dwdp_lab.execute.cuda.memory.driver_memory import tensor_over

PROT_NONE, MAP_FIXED, MAP_NORESERVE = 0, 0x10, 0x4000  # what Python's mmap does not name
NOTHING = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE

libc: Any = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


class Misuse(BaseException):
    """A rule of the driver was broken. No exception that code may expect, so nothing can swallow it."""


@dataclass
class Block:
    fd: int
    nbytes: int
    handles: HandleKind | None
    adopted: bool
    released: bool = False
    mappings: int = 0

    @property
    def identity(self) -> int:
        return os.fstat(self.fd).st_ino


@dataclass
class HostMemory:
    """Memory of one rank. `fail_at`: the number of the call (0, 1, ...) that fails, of those that can."""

    granularity: int = mmap.PAGESIZE
    offered: tuple[HandleKind, ...] = ("descriptor",)
    limit: int = 1 << 50
    fail_at: int | None = None
    calls: int = 0
    blocks: dict[int, Block] = field(default_factory=dict)
    ranges: dict[int, int] = field(default_factory=dict)  # reserved: address to bytes
    mappings: dict[int, tuple[int, int]] = field(default_factory=dict)  # address to (bytes, block)
    opened: dict[int, set[int]] = field(default_factory=dict)  # other GPUs that reach a mapping, by its address
    log: list[str] = field(default_factory=list)
    next_handle: int = 1

    def available(self) -> int:
        return self.limit - self.created_bytes

    def create(self, nbytes: int, handles: HandleKind | None = None) -> int:
        self._called("create")
        self._aligned(nbytes)
        if handles is not None and handles not in self.offered:
            raise DriverError("create", "CUDA_ERROR_NOT_SUPPORTED", f"{nbytes} bytes as {handles}")
        if nbytes > self.available():
            raise DriverError("create", "CUDA_ERROR_OUT_OF_MEMORY", f"{nbytes} bytes")
        fd = os.memfd_create("block", os.MFD_CLOEXEC)
        os.ftruncate(fd, nbytes)
        return self._new(Block(fd, nbytes, handles, adopted=False))

    def export(self, block: int, handles: HandleKind) -> int | bytes:
        self._called("export")
        found = self._block(block)
        if handles != found.handles:
            raise Misuse(f"block {block} was made to be handed over as {found.handles}, not as {handles}")
        if handles == "fabric":
            return f"/proc/{os.getpid()}/fd/{found.fd}".encode()
        return os.dup(found.fd)

    def adopt(self, exported: int | bytes) -> int:
        self._called("adopt")
        fd = os.open(exported, os.O_RDWR) if isinstance(exported, bytes) else os.dup(exported)
        return self._new(Block(fd, os.fstat(fd).st_size, None, adopted=True))

    def release(self, block: int) -> None:
        self.log.append("release")
        found = self._block(block)
        found.released = True
        self._forget_if_unused(block)

    def reserve(self, nbytes: int) -> int:
        self._called("reserve")
        self._aligned(nbytes)
        # the system's pages may be smaller than ours: take more, and give what is too much back
        wide = nbytes + self.granularity
        start = _mmap(None, wide, PROT_NONE, NOTHING, -1)
        address = -(-start // self.granularity) * self.granularity
        for begin, end in ((start, address), (address + nbytes, start + wide)):
            if end > begin:
                libc.munmap(begin, end - begin)
        self.ranges[address] = nbytes
        return address

    def map(self, address: int, nbytes: int, block: int) -> None:
        self._called("map")
        self._aligned(address)
        found = self._block(block)
        if nbytes != found.nbytes:
            raise Misuse(f"block {block} has {found.nbytes} bytes and is mapped with {nbytes}: only whole blocks are")
        if not any(start <= address and address + nbytes <= start + size for start, size in self.ranges.items()):
            raise Misuse(f"{nbytes} bytes at {address:#x} are not within a reserved range")
        if self._mapped_within(address, nbytes):
            raise Misuse(f"something is mapped at {address:#x} already")
        _mmap(address, nbytes, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED | MAP_FIXED, found.fd)
        self.mappings[address] = nbytes, block
        found.mappings += 1

    def open_to(self, gpu: int, address: int, nbytes: int) -> None:
        self._called("open_to")
        for start in self._whole_mappings(address, nbytes):
            self.opened.setdefault(start, set()).add(gpu)

    def assert_reached(self, gpu: int, address: int, nbytes: int) -> None:
        """A GPU that is not this one may read and write all of this."""
        at = address
        while at < address + nbytes:
            ((start, size),) = [
                (start, size) for start, (size, _) in self.mappings.items() if start <= at < start + size
            ]
            if gpu not in self.opened.get(start, ()):
                raise Misuse(f"what is mapped at {start:#x} was not opened to GPU {gpu}")
            at = start + size

    def unmap(self, address: int, nbytes: int) -> None:
        self.log.append("unmap")
        within = self._whole_mappings(address, nbytes)
        _mmap(address, nbytes, PROT_NONE, NOTHING | MAP_FIXED, -1)
        for start in within:
            block = self.mappings.pop(start)[1]
            self.opened.pop(start, None)
            self.blocks[block].mappings -= 1
            self._forget_if_unused(block)

    def free(self, address: int, nbytes: int) -> None:
        self.log.append("free")
        if self.ranges.get(address) != nbytes:
            raise Misuse(f"{nbytes} bytes at {address:#x} are not a reserved range")
        if self._mapped_within(address, nbytes):
            raise Misuse(f"the range at {address:#x} still has mappings")
        libc.munmap(address, nbytes)
        del self.ranges[address]

    def tensor(self, address: int, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        nbytes = torch.Size(shape).numel() * dtype.itemsize
        list(self.behind(address, nbytes))
        return tensor_over(address, shape, dtype, torch.device("cpu"))

    @property
    def created_bytes(self) -> int:
        """Of physical memory that this rank made and that is not gone yet."""
        return sum(block.nbytes for block in self.blocks.values() if not block.adopted)

    def behind(self, address: int, nbytes: int) -> Iterator[Block]:
        """The blocks behind these addresses. Raises Misuse when nothing is behind any of them."""
        at = address
        while at < address + nbytes:
            found = [(start, *what) for start, what in self.mappings.items() if start <= at < start + what[0]]
            if not found:
                raise Misuse(f"nothing is behind {at:#x}, part of {nbytes} bytes at {address:#x}")
            start, size, block = found[0]
            yield self.blocks[block]
            at = start + size

    def assert_nothing_left(self) -> None:
        assert not self.mappings
        assert not self.ranges
        assert not self.blocks

    def _whole_mappings(self, address: int, nbytes: int) -> list[int]:
        within = self._mapped_within(address, nbytes)
        if sum(self.mappings[start][0] for start in within) != nbytes or min(within, default=-1) < address:
            raise Misuse(f"{nbytes} bytes at {address:#x} are not whole mappings")
        return within

    def _called(self, name: str) -> None:
        number, self.calls = self.calls, self.calls + 1
        self.log.append(name)
        if number == self.fail_at:
            raise DriverError(name, "CUDA_ERROR_UNKNOWN", "made to fail by the test")

    def _aligned(self, number: int) -> None:
        if number <= 0 or number % self.granularity:
            raise Misuse(f"{number} is no multiple of {self.granularity}")

    def _new(self, block: Block) -> int:
        handle, self.next_handle = self.next_handle, self.next_handle + 1
        self.blocks[handle] = block
        return handle

    def _block(self, block: int) -> Block:
        found = self.blocks.get(block)
        if found is None or found.released:
            raise Misuse(f"block {block} was released, or never was")
        return found

    def _forget_if_unused(self, block: int) -> None:
        found = self.blocks[block]
        if found.released and not found.mappings:
            os.close(found.fd)
            del self.blocks[block]

    def _mapped_within(self, address: int, nbytes: int) -> list[int]:
        return [at for at, (size, _) in self.mappings.items() if at < address + nbytes and address < at + size]


@contextmanager
def no_files_left() -> Iterator[None]:
    """The process has as many open files afterwards as before."""
    before = set(os.listdir("/proc/self/fd"))
    yield
    after = set(os.listdir("/proc/self/fd"))
    assert len(after) <= len(before), sorted(after - before)


def _mmap(address: int | None, nbytes: int, protection: int, flags: int, fd: int) -> int:
    found: int | None = libc.mmap(address, nbytes, protection, flags, fd, 0)
    if found is None or found == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), f"cannot map {nbytes} bytes")
    return found
