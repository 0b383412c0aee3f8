"""DEP's all-to-all with one row per (token, expert): the form that fits the paper's roofline.

The experts are partitioned over the ranks in ascending order, so rows sorted by expert are sorted by
destination too.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from dwdp_kernels.grouped_mlp import expert_rows, sort_by_expert, weighted_sum
from torch import Tensor

from dwdp_lab.execute.cpu.exchange_rows import arrived, exchange_rows, gather_counts, outgoing, packed, unpacked
from dwdp_lab.execute.cpu.staging import ExpertTensors
from dwdp_lab.model.layers import Routing


class PerExpertExchange:
    """Rows go out and come back; each token's k rows are summed at home in the order of its choices."""

    def __init__(self, routing: Routing, cuts: Sequence[range], rank: int, scaled: bool) -> None:
        mine, experts = cuts[rank], cuts[-1].stop
        self.weights = routing.weights
        self.order, offsets = sort_by_expert(routing.ids, experts)
        counts = torch.tensor(offsets).diff()
        to_me = gather_counts(counts, len(cuts))[:, mine.start : mine.stop]
        self.sent = [int(counts[cut.start : cut.stop].sum()) for cut in cuts]
        self.received = [int(count) for count in to_me.sum(1)]
        leaving = outgoing(routing.normed, scaled)
        rows = exchange_rows(packed(leaving)[self.order // routing.ids.shape[1]], self.sent, self.received)
        # blocks arrive in rank order, each sorted by expert; all rows of an expert must stand together
        expert_of_row = torch.arange(len(mine)).repeat(len(cuts)).repeat_interleave(to_me.reshape(-1))
        self.by_expert = expert_of_row.argsort(stable=True)
        self.arrived = arrived(unpacked(rows[self.by_expert], leaving))
        self.computed = torch.empty(0)
        self.offsets = [0, *to_me.sum(0).cumsum(0).tolist()]

    def compute(self, weights: ExpertTensors) -> None:
        computed = expert_rows(self.arrived, self.offsets, weights.w13, weights.w2, self.weights.dtype)
        self.computed = torch.empty_like(computed)
        self.computed[self.by_expert] = computed

    def finish(self) -> Tensor:
        rows = exchange_rows(self.computed, self.received, self.sent)
        return weighted_sum(rows[self.order.argsort()].view(*self.weights.shape, rows.shape[1]), self.weights)
