"""What the host did while it queued a program, and should not have done: memory it asked the driver for, waits.

torch serves tensors from memory it keeps; only when that is not enough does it ask the driver, which takes long and may
wait for the GPU. Operations that wait for the GPU are reported by torch's own check (torch.cuda.set_sync_debug_mode).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch

ABOUT_WAITS = "synchronizing CUDA operation"


class Seen(NamedTuple):
    """Between two moments of one process."""

    allocations: int
    """requests to the driver for memory"""
    host_waits: int
    """operations that made the host wait for the GPU"""


class QueueWatch:
    """Watches the current GPU of this process."""

    def __init__(self, index: int) -> None:
        self._index = index
        self.seen = Seen(0, 0)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """`seen` tells afterwards what happened within."""
        before = self._allocations()
        mode = torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                yield
            finally:
                torch.cuda.set_sync_debug_mode(mode)
        waits = sum(ABOUT_WAITS in str(each.message) for each in told)
        self.seen = Seen(self._allocations() - before, waits)

    def _allocations(self) -> int:
        return int(torch.cuda.memory_stats(self._index).get("num_device_alloc", 0))
