"""Where a rank's experts lie in its store: one range of addresses, made of blocks that are only ever mapped whole.

Two readers decide the form. Peers map the store's blocks one after another and copy from it, so each parameter's local
experts of a layer are contiguous. And the weight view `composite` shows whole pages of the store among pages that pulls
fill, without copying them: so a parameter begins as far into a page as it does in the view, and the pages that hold
nothing but local experts there (`inner`) are a block of their own.

                page        page        page        page
    the view    |pulled.....|pulledLOCAL|LOCALLOCAL.|LOCALpulled|
    the store         |.....LOCAL|LOCALLOCAL.|LOCAL......|
                      block      inner block  block, with the head of what comes next

Ranks compute each other's plans, so nothing of this is sent.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from dwdp_lab.execute.cuda.memory.pages import down, up
from dwdp_lab.program.pull_plan import Layout, parameter_bytes
from dwdp_lab.scenario.model_shape import ModelShape


class Stretch(NamedTuple):
    """Bytes `start` to `end` of some range."""

    start: int
    end: int

    @property
    def nbytes(self) -> int:
        return self.end - self.start

    def moved(self, by: int) -> Stretch:
        """The same bytes as seen from elsewhere."""
        return Stretch(self.start + by, self.end + by)


class LocalPart(NamedTuple):
    """The local experts of one parameter among all E, in a range that begins on a page.

    `inner` are the whole pages without a pulled byte; None where there is none.
    """

    local: Stretch
    inner: Stretch | None


def local_part(size: int, experts: range, total: int, page: int) -> LocalPart:
    """`experts` of `total`, `size` bytes each. Behind the last expert of all, the rest of its page is nobody's."""
    local = Stretch(experts.start * size, experts.stop * size)
    end = up(local.end, page) if experts.stop == total else down(local.end, page)
    inner = Stretch(up(local.start, page), end)
    return LocalPart(local, inner if inner.nbytes > 0 else None)


class Region(NamedTuple):
    """The local experts of one parameter of one layer in the store, and the block of those that can be shown."""

    data: Stretch
    inner: Stretch | None


@dataclass(frozen=True)
class StorePlan:
    """The store of one rank. `page` is the granularity of mappings in bytes, the same for all ranks of a group."""

    shape: ModelShape
    experts: range
    page: int

    @cached_property
    def shard(self) -> Layout:
        """One layer's experts, as pull plans count their bytes."""
        return Layout(parameter_bytes(self.shape), len(self.experts))

    @cached_property
    def regions(self) -> dict[tuple[int, str], Region]:
        """By (decoder layer, parameter), in the order of their addresses."""
        found, free = {}, 0
        parts = {name: local_part(size, self.experts, self.shape.experts, self.page) for name, size in self._sizes}
        for layer in self.shape.layers_with_experts:
            for name, (local, inner) in parts.items():
                if inner is None:
                    data = Stretch(free, free + local.nbytes)  # sizes are multiples of a tile's
                    found[layer, name] = Region(data, None)
                    free = data.end
                    continue
                # as far into a page as in the view
                moved = up(free - local.start % self.page, self.page) + local.start % self.page - local.start
                region = Region(local.moved(moved), inner.moved(moved))
                found[layer, name] = region
                free = max(region.data.end, inner.end + moved)
        return found

    @cached_property
    def blocks(self) -> tuple[Stretch, ...]:
        """The blocks in the order of their addresses, without gaps."""
        return tuple(Stretch(start, end) for start, end in itertools.pairwise(sorted(set(self._cuts()))))

    @property
    def nbytes(self) -> int:
        return self.blocks[-1].end

    @property
    def _sizes(self) -> tuple[tuple[str, int], ...]:
        return self.shard.parameters

    def _cuts(self) -> Iterator[int]:
        yield 0
        for region in self.regions.values():
            if region.inner is not None:
                yield from region.inner
        yield up(max(region.data.end for region in self.regions.values()), self.page)
