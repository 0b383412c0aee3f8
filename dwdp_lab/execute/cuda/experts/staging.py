"""Staging slots and what the experts' kernel sees of them: the weight views `split` and `merged`, and plain slots.

Everything is made beforehand for the (layer, slot) pairs that a program uses, so that a step allocates nothing.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from typing import NamedTuple, Protocol

import torch
from dwdp_kernels.expert_table import ExpertTable
from torch import Tensor

from dwdp_lab.execute.cuda.experts.expert_store import ExpertStore
from dwdp_lab.model.kept_experts import table_of
from dwdp_lab.program.pull_plan import Layout
from dwdp_lab.scenario.model_shape import ModelShape

Place = tuple[int, int]
"""(decoder layer, slot)"""


class LayerTables(NamedTuple):
    """The addresses of all experts of a layer, wherever each lies."""

    w13: ExpertTable
    w2: ExpertTable


def tables_of(shape: ModelShape, memory: Mapping[str, Sequence[Tensor] | Tensor]) -> LayerTables:
    """Of what lies in memory by parameter, one tensor per expert or all in one, in the form of the store."""
    return LayerTables(*(table_of(shape, name, memory[name]) for name in ("w13", "w2")))


class Staging(Protocol):
    """The slots of one rank, seen in one way."""

    def target(self, layer: int, slot: int, name: str) -> int:
        """Where a parameter's first expert is, or would be, when the layer is pulled into the slot."""

    def tables(self, layer: int, slot: int) -> LayerTables:
        """All E experts of the layer, the remote ones in the slot."""

    def merge(self, layer: int, slot: int) -> None:
        """Copy the local experts to their places among the pulled ones. Raises ValueError where none are needed."""

    def close(self) -> None:
        """Give the slots back; neither tables nor tensors over them may be used any more."""


class Slots:
    """`count` buffers of one layout, and nothing else."""

    def __init__(self, store: ExpertStore, layout: Layout, count: int) -> None:
        self.store = store
        self.layout = layout
        with ExitStack() as stack:
            self._addresses = [store.transport.keep(stack, layout.nbytes) if layout.nbytes else 0 for _ in range(count)]
            stack.callback(store.device.synchronize)
            self._stack = stack.pop_all()

    def address(self, slot: int, name: str) -> int:
        """Where a parameter's first expert lies."""
        return self._addresses[slot] + self.layout.offset(name, 0)

    def parameter(self, slot: int, name: str) -> Tensor:
        """[experts of the layout, rows, columns], or [experts, bytes] with scales"""
        size, dtype = self.store.forms[name]
        return self.store.transport.tensor(self.address(slot, name), (self.layout.experts, *size), dtype)

    def close(self) -> None:
        self._stack.close()


class SplitStaging:
    """Slots for the remote experts; tables point into the slot and into the store."""

    def __init__(self, store: ExpertStore, layout: Layout, count: int, places: Collection[Place]) -> None:
        self._slots = Slots(store, layout, count)
        self._tables: dict[Place, LayerTables] = {}
        try:
            local = store.plan.experts
            names = tuple(store.forms)
            pulled = {
                (slot, name): list(self._slots.parameter(slot, name).unbind()) if layout.experts else []
                for slot in range(count)
                for name in names
            }
            for layer, slot in places:
                memory = {
                    name: [
                        *pulled[slot, name][: local.start],
                        *store.parameter(layer, name).unbind(),
                        *pulled[slot, name][local.start :],
                    ]
                    for name in names
                }
                self._tables[layer, slot] = tables_of(store.plan.shape, memory)
        except BaseException:
            self.close()
            raise

    def target(self, layer: int, slot: int, name: str) -> int:
        del layer  # one place for all layers
        return self._slots.address(slot, name)

    def tables(self, layer: int, slot: int) -> LayerTables:
        return self._tables[layer, slot]

    def merge(self, layer: int, slot: int) -> None:
        raise no_merge("split", layer, slot)

    def close(self) -> None:
        self._tables.clear()
        self._slots.close()


class MergedStaging:
    """Slots for all experts, into which the local ones are copied too. Also what weights are gathered into."""

    def __init__(self, store: ExpertStore, layout: Layout, count: int) -> None:
        self.store = store
        self._slots = Slots(store, layout, count)
        self._tensors: list[dict[str, Tensor]] = []
        self._tables: list[LayerTables] = []
        try:
            for slot in range(count):
                tensors = {name: self._slots.parameter(slot, name) for name in store.forms}
                self._tensors.append(tensors)
                self._tables.append(tables_of(store.plan.shape, tensors))
        except BaseException:
            self.close()
            raise

    def target(self, layer: int, slot: int, name: str) -> int:
        del layer
        return self._slots.address(slot, name)

    def tables(self, layer: int, slot: int) -> LayerTables:
        del layer
        return self._tables[slot]

    def tensors(self, slot: int) -> dict[str, Tensor]:
        """[E, rows, columns], or [E, bytes] with scales, by parameter."""
        return self._tensors[slot]

    def merge(self, layer: int, slot: int) -> None:
        local = self.store.plan.experts
        for name, tensor in self._tensors[slot].items():
            copy_by_kernel(tensor[local.start : local.stop], self.store.parameter(layer, name))

    def close(self) -> None:
        self._tables.clear()
        self._tensors.clear()
        self._slots.close()


def no_merge(view: str, layer: int, slot: int) -> ValueError:
    return ValueError(f"merge of layer {layer} into slot {slot}: the view {view} has its local experts in place")


def copy_by_kernel(target: Tensor, source: Tensor) -> None:
    """Copy between contiguous tensors of one form with an elementwise kernel.

    `Tensor.copy_` would be a memory copy command, which the engine that pulls also serves, one after another.
    """
    wide = torch.int64 if math.prod(source.shape) * source.element_size() % 8 == 0 else torch.uint8
    torch.bitwise_or(source.view(-1).view(wide), 0, out=target.view(-1).view(wide))
