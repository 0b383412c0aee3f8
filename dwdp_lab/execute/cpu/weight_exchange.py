"""weight_gather's collective: an all-gather of one layer's experts into a slot, over gloo."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist

from dwdp_lab.execute.cpu.expert_store import ExpertStore
from dwdp_lab.execute.cpu.shared_memory import Mapping
from dwdp_lab.program.pull_plan import Layout


class WeightExchange:
    """The all-gather's buffers: each rank sends the experts it computes under DEP, padded to the most."""

    def __init__(self, store: ExpertStore, layout: Layout, cuts: Sequence[range], rank: int) -> None:
        self.store = store
        self.layout = layout
        self.cuts = cuts
        self.mine = cuts[rank]
        largest = max(len(cut) for cut in cuts) * sum(size for _, size in layout.parameters)
        self.outgoing = torch.zeros(largest, dtype=torch.uint8)
        self.incoming = torch.empty(len(cuts), largest, dtype=torch.uint8)

    def gather(self, layer: int, slot: Mapping) -> None:
        """Fill the slot with all experts of the layer."""
        begin = 0
        for name, size in self.layout.parameters:
            first = self.mine.start - self.store.experts.start
            offset = self.store.offset(layer) + self.store.layout.offset(name, first)
            length = len(self.mine) * size
            self.outgoing[begin : begin + length] = self.store.mapping.tensor(offset, (length,), torch.uint8)
            begin += length
        dist.all_gather(list(self.incoming), self.outgoing)
        for cut, received in zip(self.cuts, self.incoming, strict=True):
            begin = 0
            for name, size in self.layout.parameters:
                length = len(cut) * size
                target = slot.tensor(self.layout.offset(name, cut.start), (length,), torch.uint8)
                target.copy_(received[begin : begin + length])
                begin += length
