"""The weight view `composite`: local and pulled experts in one range of addresses, without copying the local ones.

Each parameter of each (layer, slot) has a range of its own. Behind it are the slot's blocks where experts are pulled
to, which all layers share; the store's own blocks where they are local; and, where a page holds bytes of both, a page
of this range alone: its local bytes are copied once, when the range is made, and pulls write the rest.

Memory that shows at several addresses is only ever written through one of them at a time, and read through another
after the writing work has ended (CUDA C++ Programming Guide, "Virtual Aliasing Support").
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack
from typing import Literal, NamedTuple

import torch

from dwdp_lab.execute.cuda.experts.expert_store import ExpertStore
from dwdp_lab.execute.cuda.experts.staging import LayerTables, Place, no_merge, tables_of
from dwdp_lab.execute.cuda.experts.store_plan import LocalPart, Stretch, local_part
from dwdp_lab.execute.cuda.gpu.device import Memory
from dwdp_lab.execute.cuda.memory.mapped import created, mapped, reserved
from dwdp_lab.execute.cuda.memory.pages import down, up

Kind = Literal["slot", "edge", "store"]


class Part(NamedTuple):
    """Whole pages of a range, and what is behind them."""

    kind: Kind
    pages: Stretch


def parts_of(part: LocalPart, nbytes: int, page: int) -> tuple[Part, ...]:
    """The range of one parameter (all its experts, `nbytes`), page by page: what is behind it, in order."""
    local, inner = part
    if inner is None:
        inner = Stretch(up(local.end, page), up(local.end, page))  # nothing, so all that is touched is edge
    found = (
        Part("slot", Stretch(0, down(local.start, page))),
        Part("edge", Stretch(down(local.start, page), inner.start)),
        Part("store", inner),
        Part("edge", Stretch(inner.end, max(inner.end, up(local.end, page)))),
        Part("slot", Stretch(max(inner.end, up(local.end, page)), up(nbytes, page))),
    )
    return tuple(each for each in found if each.pages.nbytes)


class CompositeStaging:
    """Slots of blocks for the remote experts, and a range over both for each place."""

    def __init__(self, store: ExpertStore, memory: Memory, count: int, places: Collection[Place]) -> None:
        self.store = store
        self.memory = memory
        plan = store.plan
        total = plan.shape.experts
        self._locals = {name: local_part(size, plan.experts, total, plan.page) for name, size in plan.shard.parameters}
        self.parts = {
            name: parts_of(self._locals[name], total * size, plan.page) for name, size in plan.shard.parameters
        }
        self.edge_bytes = len(places) * sum(part.pages.nbytes for part in self._all_parts("edge"))
        """What the views take beyond the slots: pages that hold local and pulled bytes, once per place."""
        self._addresses: dict[tuple[int, int, str], int] = {}
        self._tables: dict[Place, LayerTables] = {}
        with ExitStack() as stack:
            self._slot_blocks = [{name: self._blocks(stack, name, "slot") for name in self.parts} for _ in range(count)]
            try:
                for layer, slot in places:
                    for name in self.parts:
                        self._addresses[layer, slot, name] = self._compose(stack, layer, slot, name)
                    self._tables[layer, slot] = self._table(layer, slot)
            finally:
                # the edges' local bytes are in place before anything else touches these pages, or they are taken back
                store.device.synchronize()
            stack.callback(store.device.synchronize)
            self._stack = stack.pop_all()

    def target(self, layer: int, slot: int, name: str) -> int:
        return self._addresses[layer, slot, name]

    def tables(self, layer: int, slot: int) -> LayerTables:
        return self._tables[layer, slot]

    def merge(self, layer: int, slot: int) -> None:
        raise no_merge("composite", layer, slot)

    def close(self) -> None:
        self._tables.clear()
        self._stack.close()

    def _all_parts(self, kind: Kind) -> Iterator[Part]:
        return (part for parts in self.parts.values() for part in parts if part.kind == kind)

    def _blocks(self, stack: ExitStack, name: str, kind: Kind) -> list[int]:
        return [created(stack, self.memory, part.pages.nbytes) for part in self.parts[name] if part.kind == kind]

    def _compose(self, stack: ExitStack, layer: int, slot: int, name: str) -> int:
        parts, store = self.parts[name], self.store
        edges = self._blocks(stack, name, "edge")
        region = store.plan.regions[layer, name]
        shown = [] if region.inner is None else [store.block_at(region.inner)]
        behind = {"slot": iter(self._slot_blocks[slot][name]), "edge": iter(edges), "store": iter(shown)}
        address = reserved(stack, self.memory, parts[-1].pages.end)
        mapped(stack, self.memory, [(next(behind[kind]), pages.nbytes) for kind, pages in parts], address)
        for kind, pages in parts:
            if kind == "edge":
                self._copy_local(address, pages, layer, name)
        return address

    def _copy_local(self, address: int, pages: Stretch, layer: int, name: str) -> None:
        """Put the local bytes of these pages of a range in place."""
        local = self._locals[name].local
        start, end = max(pages.start, local.start), min(pages.end, local.end)
        source = self.store.address(layer, name) + start - local.start
        as_bytes = self.store.transport.tensor
        as_bytes(address + start, (end - start,), torch.uint8).copy_(as_bytes(source, (end - start,), torch.uint8))

    def _table(self, layer: int, slot: int) -> LayerTables:
        store = self.store
        shape = store.plan.shape
        memory = {
            name: store.transport.tensor(self._addresses[layer, slot, name], (shape.experts, *size), dtype)
            for name, (size, dtype) in store.forms.items()
        }
        return tables_of(shape, memory)
