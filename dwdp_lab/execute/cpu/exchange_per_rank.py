"""DEP's all-to-all with one row per (token, rank): the stronger form, as several experts share a rank."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dwdp_lab.execute.cpu.exchange_rows import exchange_rows, gather_counts, outgoing, packed, partial_sums, unpacked
from dwdp_lab.execute.cpu.staging import ExpertTensors
from dwdp_lab.model.layers import Routing


class PerRankExchange:
    """A token goes to every rank with any of its experts; partial sums come back, added in rank order."""

    def __init__(self, routing: Routing, cuts: Sequence[range], rank: int, scaled: bool) -> None:
        self.mine = cuts[rank]
        self.own_tokens = len(routing.ids)
        visits = [(routing.ids >= cut.start) & (routing.ids < cut.stop) for cut in cuts]
        self.tokens = [visit.any(1).nonzero()[:, 0] for visit in visits]
        self.sent = [len(tokens) for tokens in self.tokens]
        self.received: list[int] = gather_counts(torch.tensor(self.sent), len(cuts))[:, rank].tolist()
        leaving = (*outgoing(routing.normed, scaled), routing.ids, routing.weights)
        rows = exchange_rows(packed(leaving)[torch.cat(self.tokens)], self.sent, self.received)
        self.arrived = unpacked(rows, leaving)
        self.partial = torch.empty(0)

    def compute(self, weights: ExpertTensors) -> None:
        self.partial = partial_sums(self.arrived, self.mine, weights)

    def finish(self) -> Tensor:
        rows = exchange_rows(self.partial, self.received, self.sent)
        total = torch.zeros(self.own_tokens, rows.shape[1], dtype=torch.float32)
        for tokens, part in zip(self.tokens, torch.split(rows, self.sent), strict=True):
            total[tokens] += part
        return total.to(rows.dtype)
