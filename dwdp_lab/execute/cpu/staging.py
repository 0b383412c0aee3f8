"""Staging slots and what the experts see of them: the weight views `split` and `merged`."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import NamedTuple

from dwdp_kernels.grouped_mlp import Weight

from dwdp_lab.execute.cpu.expert_store import ExpertStore, expert_weight
from dwdp_lab.execute.cpu.shared_memory import Mapping, copy_bytes, shared_block
from dwdp_lab.program.pull_plan import Layout, Slice


class ExpertTensors(NamedTuple):
    """One weight per expert in the order of their numbers, wherever each lies."""

    w13: list[Weight]
    w2: list[Weight]


class Staging:
    """The slots of one rank: room for a layer's remote experts (`split`) or for all (`merged`)."""

    def __init__(self, store: ExpertStore, layout: Layout, slots: int) -> None:
        self.store = store
        self.layout = layout
        self.fds = [shared_block(layout.nbytes) for _ in range(slots)]
        self.slots = [Mapping(fd, layout.nbytes) for fd in self.fds]
        self._weights: dict[tuple[int, int], ExpertTensors] = {}

    def target(self, layer: int, slot: int) -> Mapping:
        """Where pulls of the layer into the slot land."""
        del layer  # one place for all layers; the view `composite` has one for each
        return self.slots[slot]

    def pull(
        self, slices: Sequence[Slice], peers: Sequence[Mapping], layer: int, slot: int, gbps: float | None
    ) -> None:
        """Copy the slices in order, no faster than `gbps` (1e9 bytes/s; None: as fast as memory is)."""
        target, source = self.target(layer, slot).address, self.store.offset(layer)
        began, copied = time.monotonic(), 0
        for piece in slices:
            copy_bytes(
                target + piece.slot_offset,
                peers[piece.peer].address + source + piece.source_offset,
                piece.nbytes,
            )
            copied += piece.nbytes
            if gbps is not None and (ahead := began + copied / (gbps * 1e9) - time.monotonic()) > 0:
                time.sleep(ahead)

    def merge(self, layer: int, slot: int) -> None:
        """Copy the local experts to their places among the pulled ones."""
        shard, first = self.store.layout, self.store.experts.start
        target = self.target(layer, slot).address
        source = self.store.mapping.address + self.store.offset(layer)
        for name, size in shard.parameters:
            copy_bytes(
                target + self.layout.offset(name, first),
                source + shard.offset(name, 0),
                shard.experts * size,
            )

    def weights(self, layer: int, slot: int) -> ExpertTensors:
        """All experts of the layer, the remote ones in the slot."""
        key = layer, slot
        if key not in self._weights:
            self._weights[key] = ExpertTensors(*(self._parameter(layer, slot, name) for name in ("w13", "w2")))
        return self._weights[key]

    def _parameter(self, layer: int, slot: int, name: str) -> list[Weight]:
        shape, local = self.store.shape, self.store.experts
        remote_only = self.layout.experts < shape.experts
        weights = []
        for expert in range(shape.experts):
            if remote_only and expert in local:
                weights.append(self.store.weight(layer, name, expert))
                continue
            index = expert if not remote_only or expert < local.start else expert - len(local)
            offset = self.layout.offset(name, index)
            weights.append(expert_weight(self.target(layer, slot), offset, shape, name))
        return weights

    def close(self) -> None:
        """Give the slots back; no tensor over them may be used after."""
        self._weights.clear()
        for slot in self.slots:
            slot.close()
        for fd in self.fds:
            os.close(fd)


def resident(store: ExpertStore, layer: int, experts: range) -> ExpertTensors:
    """Experts of a layer that all lie in the store."""
    w13, w2 = ([store.weight(layer, name, expert) for expert in experts] for name in ("w13", "w2"))
    return ExpertTensors(w13, w2)
