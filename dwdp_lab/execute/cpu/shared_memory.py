"""Memory that ranks of one host share without a name anywhere: a file descriptor, mapped by whoever holds it.

It is gone when the last process that holds or maps it is gone, however that process ended.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import tempfile
from typing import Any

import torch
from torch import Tensor

PAGE = mmap.PAGESIZE
_MAP_FIXED = 0x10  # the same on Linux and macOS; Python's mmap module does not have it

_libc: Any = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int),
    *(ctypes.c_int, ctypes.c_int, ctypes.c_ssize_t),
)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


def whole_pages(nbytes: int) -> int:
    """`nbytes` rounded up to pages, at least one."""
    return max(1, math.ceil(nbytes / PAGE)) * PAGE


def shared_block(nbytes: int) -> int:
    """A descriptor of new zeroed memory of whole pages, which the caller closes. Raises OSError."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("dwdp", os.MFD_CLOEXEC)
    else:
        fd, path = tempfile.mkstemp(prefix="dwdp-")
        os.unlink(path)
    try:
        os.ftruncate(fd, whole_pages(nbytes))
    except OSError:
        os.close(fd)
        raise
    return fd


class Mapping:
    """A range of this process's addresses, mapped from a block. Writing to one that is read-only ends the
    process.

    Tensors over it do not keep it: `close` only when none is left.
    """

    def __init__(self, fd: int, nbytes: int, writable: bool = True) -> None:
        self.nbytes = whole_pages(nbytes)
        self.address: int = _map(None, self.nbytes, fd, 0, writable, fixed=False)

    def replace(self, offset: int, nbytes: int, fd: int, fd_offset: int, writable: bool = True) -> None:
        """Let pages of this range show another block's pages. All three numbers are multiples of PAGE."""
        if offset % PAGE or nbytes % PAGE or fd_offset % PAGE or offset + nbytes > self.nbytes:
            raise ValueError(f"pages {offset} + {nbytes} (from {fd_offset}) do not fit {self.nbytes} bytes of pages")
        _map(self.address + offset, nbytes, fd, fd_offset, writable, fixed=True)

    def tensor(self, offset: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A view of `shape` that begins `offset` bytes into the range."""
        length = math.prod(shape) * dtype.itemsize
        if offset < 0 or offset + length > self.nbytes:
            raise ValueError(f"{length} bytes at {offset} lie outside a range of {self.nbytes}")
        if not length:
            return torch.empty(shape, dtype=dtype)
        memory = (ctypes.c_ubyte * length).from_address(self.address + offset)
        return torch.frombuffer(memory, dtype=dtype).view(shape)

    def close(self) -> None:
        """Give the addresses back."""
        if self.nbytes:
            _libc.munmap(self.address, self.nbytes)
            self.nbytes = 0


def _map(address: int | None, nbytes: int, fd: int, offset: int, writable: bool, fixed: bool) -> int:
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    flags = mmap.MAP_SHARED | (_MAP_FIXED if fixed else 0)
    result: int | None = _libc.mmap(address, nbytes, protection, flags, fd, offset)
    if result is None or result == ctypes.c_void_p(-1).value:
        code = ctypes.get_errno()
        raise OSError(code, f"cannot map {nbytes} bytes: {os.strerror(code)}")
    return result


def copy_bytes(target: int, source: int, nbytes: int) -> None:
    """Copy between addresses. ctypes lets go of the interpreter meanwhile, so other lanes go on."""
    ctypes.memmove(target, source, nbytes)
