"""DEP by all-gather and reduce-scatter: every rank sees all tokens and gives a part of each one's sum.

All sizes are known beforehand, so the host never waits. A token travels to every rank with its choices; rows of
experts that are elsewhere are not computed.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from dwdp_lab.execute.cuda.compute.arithmetic import ExpertTables
from dwdp_lab.execute.cuda.exchanges.exchange import Ends
from dwdp_lab.execute.cuda.meetings.meeting import Gathering, Sums
from dwdp_lab.execute.tokens import tokens_of
from dwdp_lab.program.operation import Op


class AllGatherExchange:
    """The all-gather form, for any number of tokens on each rank."""

    def __init__(self, ends: Ends) -> None:
        self.ends = ends

    def send(self, op: Op, sizes: Sequence[int]) -> None:
        ends, total = self.ends, sum(sizes)

        def shares() -> list[Gathering]:
            _, ids, weights = ends.buffers.get("routed", tokens_of(op))
            own = (*ends.buffers.get("outgoing", tokens_of(op)), ids, weights)
            everyone = [part.new_empty(total, *part.shape[1:]) for part in own]
            ends.buffers.put("received", op, *everyone)
            rows, *others = (Gathering(*pair, sizes) for pair in zip(own, everyone, strict=True))
            return [rows._replace(wanted=self.visited(ids)), *others]

        ends.quantise(op)
        ends.meeting.gather(ends.stream, shares)

    def compute(self, op: Op, tables: ExpertTables) -> None:
        ends = self.ends
        *rows, ids, weights = ends.buffers.get("received", tokens_of(op))
        mine = ids - ends.mine.start
        visits = ends.visits(len(ids))
        ends.buffers.put("computed", op, ends.arithmetic.experts(ends.arrived(rows), mine, weights, tables, visits))

    def fetch(self, op: Op, sizes: Sequence[int]) -> None:
        ends = self.ends

        def sums() -> Sums:
            (partial,) = ends.buffers.get("computed", tokens_of(op))
            own = partial.new_empty(sizes[ends.rank], partial.shape[1])
            ends.buffers.put("returned", op, own)
            *_, ids, _ = ends.buffers.get("received", tokens_of(op))
            return Sums(partial, own, sizes, self.visited(ids))

        ends.meeting.scatter_sums(ends.stream, sums)

    def visited(self, ids: Tensor) -> Tensor | None:
        """[N, T] bool, on the device: which ranks' rows matter for tokens with experts [T, k]; None for all."""
        del ids
        return None
