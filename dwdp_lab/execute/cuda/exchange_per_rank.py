"""DEP's all-to-all with one row per (token, rank): a token goes once to every rank that has any of its experts.

For meetings over NCCL or through the host, which move as many rows as the host tells them. How many rows go where
depends on the routing, so each layer begins with a small exchange of counts that the host has to read. What comes back
are sums over a rank's experts, added up at home in rank order. Where ranks meet by copies the host has no part in it
(exchange_masked.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dwdp_lab.execute.cuda.arithmetic import ExpertTables, Sorted
from dwdp_lab.execute.cuda.exchange import Ends
from dwdp_lab.execute.cuda.host_read import read
from dwdp_lab.execute.cuda.meeting import Gathering, Swap
from dwdp_lab.execute.tokens import Tokens, tokens_of
from dwdp_lab.program.operation import Op

Counts = tuple[list[int], list[int]]
"""Rows sent to each rank, and received from each."""


class PerRankExchange:
    """The all-to-all that sends a token at most once to a rank."""

    def __init__(self, ends: Ends) -> None:
        self.ends = ends
        owner = [rank for rank, cut in enumerate(ends.cuts) for _ in cut]
        self.owner_of_expert = torch.tensor(owner, device=ends.device.torch_device)
        self._counts: dict[Tokens, Counts] = {}
        self._visits: dict[Tokens, int] = {}
        """About how many are to this rank's experts; the same in all layers."""

    def send(self, op: Op, sizes: Sequence[int]) -> None:
        ends, tokens, ranks = self.ends, tokens_of(op), len(self.ends.cuts)

        def sort() -> None:
            _, ids, _ = ends.buffers.get("routed", tokens)
            routes = ends.arithmetic.sort(self._ranks_visited(ids), ranks)
            ends.buffers.put("sorted", op, *routes)
            ends.buffers.put("counts sent", op, routes.offsets.diff()[None])

        def counts() -> list[Gathering]:
            (sent,) = ends.buffers.get("counts sent", tokens)
            everyone = sent.new_empty(ranks, ranks)
            ends.buffers.put("counts", op, everyone)
            return [Gathering(sent, everyone, [1] * ranks)]

        self._visits[tokens] = ends.visits(sum(sizes))
        ends.quantise(op)
        ends.stream.run(sort)
        ends.meeting.gather(ends.stream, counts)
        everyone = read(ends.device, ends.stream, ends.buffers, "counts", op, (ranks, ranks))
        sent, received = self._counts[tokens] = everyone[ends.rank].tolist(), everyone[:, ends.rank].tolist()

        def rows() -> list[Swap]:
            routes = Sorted(*ends.buffers.get("sorted", tokens))
            token = routes.token_of_row[: sum(sent)]
            _, ids, weights = ends.buffers.get("routed", tokens)
            outgoing = [part.index_select(0, token) for part in (*ends.buffers.get("outgoing", tokens), ids, weights)]
            incoming = [part.new_empty(sum(received), *part.shape[1:]) for part in outgoing]
            ends.buffers.put("received", op, *incoming)
            return [Swap(out, into, sent, received) for out, into in zip(outgoing, incoming, strict=True)]

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

    def fetch(self, op: Op, sizes: Sequence[int]) -> None:
        del sizes
        ends, tokens = self.ends, tokens_of(op)
        sent, received = self._counts.pop(tokens)

        def rows() -> list[Swap]:
            (partial,) = ends.buffers.get("computed", tokens)
            back = partial.new_empty(sum(sent), partial.shape[1])
            ends.buffers.put("rows back", op, back)
            return [Swap(partial, back, received, sent)]

        def add_up() -> None:
            (back,) = ends.buffers.get("rows back", tokens)
            row_of_visit = Sorted(*ends.buffers.get("sorted", tokens)).row_of_visit
            once = torch.ones(row_of_visit.shape, dtype=back.dtype, device=back.device)
            ends.buffers.put("returned", op, ends.arithmetic.combine(back, row_of_visit, once))

        ends.meeting.swap(ends.stream, rows)
        ends.stream.run(add_up)
