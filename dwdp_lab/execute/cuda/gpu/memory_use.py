"""What ranks take of a GPU's memory, by what is left of it."""

from __future__ import annotations

import torch


class MemoryUse:
    """How much of a GPU's memory is in use, by whomever."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._before = self._used()

    def beside_what_was(self) -> int:
        """Bytes more than when this was made, with the memory that torch keeps for later."""
        return self._used() - self._before

    def _used(self) -> int:
        free, total = torch.cuda.mem_get_info(self._index)
        return int(total - free)
