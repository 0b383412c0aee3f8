"""DEP's all-to-all with one row per (token, rank): a token goes once to every rank that has any of its experts.

For meetings over NCCL or through the host, which move as many rows as the host tells them. What comes back are sums
over a rank's experts, added up at home in rank order. Where ranks meet by copies the host has no part in it
(masked.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dwdp_lab.execute.cuda.compute.arithmetic import ExpertTables
from dwdp_lab.execute.cuda.exchanges.counted import CountedExchange
from dwdp_lab.execute.cuda.exchanges.exchange import Ends
from dwdp_lab.execute.cuda.meetings.meeting import Swap
from dwdp_lab.execute.tokens import Tokens, tokens_of
from dwdp_lab.program.operation import Op


class PerRankExchange(CountedExchange):
    """The all-to-all that sends a token at most once to a rank."""

    def __init__(self, ends: Ends) -> None:
        super().__init__(ends, weighed_there=True)
        self.owner_of_expert = torch.tensor(ends.owners, device=ends.device.torch_device)
        self._visits: dict[Tokens, int] = {}
        """About how many are to this rank's experts; the same in all layers."""

    def send(self, op: Op, sizes: Sequence[int]) -> None:
        ends, tokens = self.ends, tokens_of(op)
        self._visits[tokens] = ends.visits(sum(sizes))
        everyone = self.count(op, self._ranks_visited, len(ends.cuts))
        counts = self._counts[tokens] = everyone[ends.rank].tolist(), everyone[:, ends.rank].tolist()

        def rows() -> list[Swap]:
            _, ids, weights = ends.buffers.get("routed", tokens)
            swaps = self.swaps(op, (*ends.buffers.get("outgoing", tokens), ids, weights), counts)
            ends.buffers.put("received", op, *(one.incoming for one in swaps))
            return swaps

        ends.meeting.swap(ends.stream, rows)

    def _ranks_visited(self, ids: Tensor) -> Tensor:
        """[T, N] int32: column r is r where the token has an expert on rank r, else -1."""
        ranks = len(self.ends.cuts)
        visited = torch.zeros(len(ids), ranks, dtype=torch.bool, device=ids.device)
        visited.scatter_(1, self.owner_of_expert[ids.long()], True)
        every = torch.arange(ranks, dtype=torch.int32, device=ids.device)
        return torch.where(visited, every, -1)

    def compute(self, op: Op, tables: ExpertTables) -> None:
        ends = self.ends
        *rows, ids, weights = ends.buffers.get("received", tokens_of(op))
        mine = ids - ends.mine.start
        visits = self._visits[tokens_of(op)]  # as in the other forms, so that the tiles, and the bits, are theirs
        ends.buffers.put("computed", op, ends.arithmetic.experts(ends.arrived(rows), mine, weights, tables, visits))
