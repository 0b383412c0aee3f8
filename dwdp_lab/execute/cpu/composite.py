"""The weight view `composite`: local and pulled experts in one range of addresses, without copying the local
ones.

Each (layer, slot) gets a range of its own that shows the slot's pages where experts are pulled to, and the
pages of this rank's shard where they are local. A page that holds bytes of both is private to the range: its
local bytes are copied once, when the range is made, and pulls write the rest. (On GPUs the same is done with
CUDA's virtual memory calls.)
"""

from __future__ import annotations

import os

from dwdp_lab.execute.cpu.expert_store import ExpertStore
from dwdp_lab.execute.cpu.shared_memory import PAGE, Mapping, copy_bytes, shared_block
from dwdp_lab.execute.cpu.staging import Staging
from dwdp_lab.program.pull_plan import Layout


class Region:
    """Where one parameter's local experts lie in a range: bytes `start` to `end`, whole pages `inner`."""

    def __init__(self, start: int, end: int) -> None:
        self.start = start
        self.end = end
        first, last = whole_pages_up(start), end // PAGE * PAGE
        self.inner = range(first, max(first, last), PAGE)
        touched = range(start // PAGE * PAGE, whole_pages_up(end), PAGE)
        self.edges = [page for page in touched if page not in self.inner]


def whole_pages_up(offset: int) -> int:
    """The first page boundary at or after an offset."""
    return -(-offset // PAGE) * PAGE


class CompositeStaging(Staging):
    """Slots with room for all experts, seen through one composed range per layer and slot."""

    def __init__(self, store: ExpertStore, layout: Layout, slots: int) -> None:
        super().__init__(store, layout, slots)
        first = store.experts.start
        self.regions = {
            name: Region(layout.offset(name, first), layout.offset(name, first) + store.layout.experts * size)
            for name, size in layout.parameters
        }
        self._ranges: dict[tuple[int, int], Mapping] = {}
        self._realigned: dict[tuple[int, str], tuple[int, int]] = {}
        self.doubled_bytes = 0
        """Local experts kept a second time, because their bytes fall differently on pages here and there."""

    def target(self, layer: int, slot: int) -> Mapping:
        key = layer, slot
        if key not in self._ranges:
            self._ranges[key] = self._compose(layer, slot)
        return self._ranges[key]

    def _compose(self, layer: int, slot: int) -> Mapping:
        composed = Mapping(self.fds[slot], self.layout.nbytes)
        edges = sorted({page for region in self.regions.values() for page in region.edges})
        if edges:
            fd = shared_block(len(edges) * PAGE)
            for number, page in enumerate(edges):
                composed.replace(page, PAGE, fd, number * PAGE)
            os.close(fd)
        for name, region in self.regions.items():
            fd, begin = self._source(layer, name)
            inner = region.inner
            if inner:
                offset = begin + inner.start - region.start
                composed.replace(inner.start, inner.stop - inner.start, fd, offset, writable=False)
            local = self.store.mapping.address + self.store.offset(layer) + self.store.layout.offset(name, 0)
            for page in region.edges:
                start, end = max(page, region.start), min(page + PAGE, region.end)
                copy_bytes(composed.address + start, local + start - region.start, end - start)
        return composed

    def _source(self, layer: int, name: str) -> tuple[int, int]:
        """(descriptor, offset) of the parameter's local experts, such that pages of it fit into the range."""
        region = self.regions[name]
        begin = self.store.offset(layer) + self.store.layout.offset(name, 0)
        if (begin - region.start) % PAGE == 0:
            return self.store.fd, begin
        if (layer, name) not in self._realigned:
            shift, length = region.start % PAGE, region.end - region.start
            fd = shared_block(shift + length)
            copy = Mapping(fd, shift + length)
            copy_bytes(copy.address + shift, self.store.mapping.address + begin, length)
            copy.close()
            self._realigned[layer, name] = fd, shift
            self.doubled_bytes += length
        return self._realigned[layer, name]

    def close(self) -> None:
        for composed in self._ranges.values():
            composed.close()
        self._ranges.clear()
        for fd, _ in self._realigned.values():
            os.close(fd)
        self._realigned.clear()
        super().close()
