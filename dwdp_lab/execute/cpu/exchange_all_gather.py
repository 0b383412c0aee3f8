"""DEP by all-gather and reduce-scatter: every rank sees all tokens and returns a partial sum for each.

gloo has neither for uneven sizes, so batches are padded to the longest for the all-gather, and the
reduce-scatter is an all-to-all of partial sums, added at home in rank order.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from dwdp_lab.execute.cpu.exchange_rows import exchange_rows, outgoing, packed, partial_sums, unpacked
from dwdp_lab.execute.cpu.staging import ExpertTensors
from dwdp_lab.model.layers import Routing


class AllGatherExchange:
    """`tokens[r]` is how many tokens rank r has in this step."""

    def __init__(self, routing: Routing, cuts: Sequence[range], rank: int, tokens: Sequence[int], scaled: bool) -> None:
        self.mine = cuts[rank]
        self.rank = rank
        self.tokens = tokens
        leaving = (*outgoing(routing.normed, scaled), routing.ids, routing.weights)
        own = packed(leaving)
        padded = torch.zeros(max(1, *tokens), own.shape[1], dtype=torch.uint8)
        padded[: len(own)] = own
        everyone = torch.empty(len(cuts), *padded.shape, dtype=torch.uint8)
        dist.all_gather(list(everyone), padded)
        rows = torch.cat([everyone[peer, :count] for peer, count in enumerate(tokens)])
        self.arrived = unpacked(rows, leaving)
        self.partial = torch.empty(0)

    def compute(self, weights: ExpertTensors) -> None:
        self.partial = partial_sums(self.arrived, self.mine, weights)

    def finish(self) -> Tensor:
        own = self.tokens[self.rank]
        rows = exchange_rows(self.partial, self.tokens, [own] * len(self.tokens))
        total = torch.zeros(own, rows.shape[1], dtype=torch.float32)
        for part in rows.view(len(self.tokens), own, rows.shape[1]):
            total += part
        return total.to(rows.dtype)
