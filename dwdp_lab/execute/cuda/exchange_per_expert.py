"""DEP's all-to-all with one row per (token, expert): the form that fits the paper's roofline.

Experts are dealt to ranks in ascending order, so rows sorted by expert are sorted by rank too. However ranks meet, the
host has to read, once per layer, how many rows go where. Room for whatever could come, as exchange_masked.py has it,
would be k times as much here, a row for each visit of all ranks' tokens; and this form is there to be compared with
that roofline, not to be the fastest.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dwdp_lab.execute.cuda.arithmetic import ExpertTables, Sorted
from dwdp_lab.execute.cuda.exchange import Ends
from dwdp_lab.execute.cuda.exchange_per_rank import Counts
from dwdp_lab.execute.cuda.host_read import read
from dwdp_lab.execute.cuda.meeting import Gathering, Swap
from dwdp_lab.execute.tokens import Tokens, tokens_of
from dwdp_lab.program.operation import Op


class PerExpertExchange:
    """Rows go out and come back; each token's k rows are summed at home in the order of its choices."""

    def __init__(self, ends: Ends) -> None:
        self.ends = ends
        self._counts: dict[Tokens, Counts] = {}

    def send(self, op: Op, sizes: Sequence[int]) -> None:
        del sizes
        ends, tokens, ranks, experts = self.ends, tokens_of(op), len(self.ends.cuts), self.ends.cuts[-1].stop

        def sort() -> None:
            _, ids, _ = ends.buffers.get("routed", tokens)
            routes = ends.arithmetic.sort(ids, experts)
            ends.buffers.put("sorted", op, *routes)
            ends.buffers.put("counts sent", op, routes.offsets.diff()[None])

        def counts() -> list[Gathering]:
            (sent,) = ends.buffers.get("counts sent", tokens)
            everyone = sent.new_empty(ranks, experts)
            ends.buffers.put("counts", op, everyone)
            return [Gathering(sent, everyone, [1] * ranks)]

        ends.quantise(op)
        ends.stream.run(sort)
        ends.meeting.gather(ends.stream, counts)
        everyone = read(ends.device, ends.stream, ends.buffers, "counts", op, (ranks, experts))
        sent = [int(everyone[ends.rank, cut.start : cut.stop].sum()) for cut in ends.cuts]
        received: list[int] = everyone[:, ends.mine.start : ends.mine.stop].sum(1).tolist()
        self._counts[tokens] = sent, received

        def rows() -> list[Swap]:
            _, _, weights = ends.buffers.get("routed", tokens)
            token = Sorted(*ends.buffers.get("sorted", tokens)).token_of_row
            outgoing = [part.index_select(0, token) for part in ends.buffers.get("outgoing", tokens)]
            incoming = [part.new_empty(sum(received), *part.shape[1:]) for part in outgoing]
            # blocks arrive in rank order, each sorted by expert; made here, as a copy from the host would wait for it
            (told,) = ends.buffers.get("counts", tokens)
            to_me = told[:, ends.mine.start : ends.mine.stop].reshape(-1)
            numbers = torch.arange(len(ends.mine), dtype=torch.int32, device=weights.device).repeat(ranks)
            ids = torch.repeat_interleave(numbers, to_me.long(), output_size=sum(received))[:, None]
            ends.buffers.put("received", op, *incoming, ids, weights.new_ones(len(ids), 1))
            return [Swap(out, into, sent, received) for out, into in zip(outgoing, incoming, strict=True)]

        ends.meeting.swap(ends.stream, rows)

    def compute(self, op: Op, tables: ExpertTables) -> None:
        ends = self.ends
        *rows, ids, once = ends.buffers.get("received", tokens_of(op))
        computed = ends.arithmetic.experts(ends.arrived(rows), ids, once, tables, max(1, len(ids)))
        ends.buffers.put("computed", op, computed)

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
            (back,) = ends.buffers.get("rows back", tokens)
            _, _, weights = ends.buffers.get("routed", tokens)
            row_of_visit = Sorted(*ends.buffers.get("sorted", tokens)).row_of_visit
            ends.buffers.put("returned", op, ends.arithmetic.combine(back, row_of_visit, weights))

        ends.meeting.swap(ends.stream, rows)
        ends.stream.run(add_up)
