"""What DEP's two all-to-alls share that move as many rows as there are: the host has to know how many.

That depends on the routing, so each layer begins with a small exchange of counts that the host reads. Rows come back
the way they went, and are added up at home.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from torch import Tensor

from dwdp_lab.execute.cuda.compute.arithmetic import Sorted
from dwdp_lab.execute.cuda.exchanges.exchange import Ends
from dwdp_lab.execute.cuda.exchanges.host_read import read
from dwdp_lab.execute.cuda.meetings.meeting import Gathering, Swap
from dwdp_lab.execute.tokens import Tokens, tokens_of
from dwdp_lab.program.operation import Op

Counts = tuple[list[int], list[int]]
"""Rows sent to each rank, and received from each."""


class CountedExchange:
    """Of rows that are one for each visit of a token to some groups, each on one rank, in rank order."""

    def __init__(self, ends: Ends, weighed_there: bool) -> None:
        self.ends = ends
        self._weighed_there = weighed_there
        self._counts: dict[Tokens, Counts] = {}

    def count(self, op: Op, groups_of: Callable[[Tensor], Tensor], groups: int) -> Tensor:
        """[N, groups] on the host, and as `counts` on the device: how many rows each rank has for each group.

        `groups_of` gives of experts [T, k] the groups [T, ...] int32 that tokens visit; -1 counts for nothing.
        """
        ends, tokens, size = self.ends, tokens_of(op), (len(self.ends.cuts), groups)

        def sort() -> None:
            _, ids, _ = ends.buffers.get("routed", tokens)
            routes = ends.arithmetic.sort(groups_of(ids), groups)
            ends.buffers.put("sorted", op, *routes)
            ends.buffers.put("counts sent", op, routes.offsets.diff()[None])

        def counts() -> list[Gathering]:
            (sent,) = ends.buffers.get("counts sent", tokens)
            everyone = sent.new_empty(size)
            ends.buffers.put("counts", op, everyone)
            return [Gathering(sent, everyone, [1] * len(ends.cuts))]

        ends.quantise(op)
        ends.stream.run(sort)
        ends.meeting.gather(ends.stream, counts)
        return read(ends.device, ends.stream, ends.buffers, "counts", op, size)

    def swaps(self, op: Op, parts: Iterable[Tensor], counts: Counts) -> list[Swap]:
        """Of parts [T, ...] the rows that go out, as they were sorted, and room for those that come in."""
        sent, received = counts
        token = Sorted(*self.ends.buffers.get("sorted", tokens_of(op))).token_of_row[: sum(sent)]
        outgoing = [part.index_select(0, token) for part in parts]
        return [Swap(out, out.new_empty(sum(received), *out.shape[1:]), sent, received) for out in outgoing]

    def fetch(self, op: Op, sizes: Sequence[int]) -> None:
        del sizes
        ends, tokens = self.ends, tokens_of(op)
        sent, received = self._counts.pop(tokens)

        def rows() -> list[Swap]:
            (computed,) = ends.buffers.get("computed", tokens)
            back = computed.new_empty(sum(sent), computed.shape[1])
            ends.buffers.put("rows back", op, back)
            return [Swap(computed, back, received, sent)]

        def add_up() -> None:
            (back,), (_, _, weights) = ends.buffers.get("rows back", tokens), ends.buffers.get("routed", tokens)
            row_of_visit = Sorted(*ends.buffers.get("sorted", tokens)).row_of_visit
            times = weights.new_ones(row_of_visit.shape) if self._weighed_there else weights
            ends.buffers.put("returned", op, ends.arithmetic.combine(back, row_of_visit, times))

        ends.meeting.swap(ends.stream, rows)
        ends.stream.run(add_up)
