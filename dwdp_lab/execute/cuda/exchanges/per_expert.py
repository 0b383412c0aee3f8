"""DEP's all-to-all with one row per (token, expert): the form that fits the paper's roofline.

Experts are dealt to ranks in ascending order, so rows sorted by expert are sorted by rank too. However ranks meet, the
host has to read, once per layer, how many rows go where. Room for whatever could come, as masked.py has it,
would be k times as much here, a row for each visit of all ranks' tokens; and this form is there to be compared with
that roofline, not to be the fastest.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dwdp_lab.execute.cuda.compute.arithmetic import ExpertTables
from dwdp_lab.execute.cuda.exchanges.counted import CountedExchange
from dwdp_lab.execute.cuda.exchanges.exchange import Ends
from dwdp_lab.execute.cuda.meetings.meeting import Swap
from dwdp_lab.execute.tokens import tokens_of
from dwdp_lab.program.operation import Op


class PerExpertExchange(CountedExchange):
    """Rows go out and come back; each token's k rows are summed at home in the order of its choices."""

    def __init__(self, ends: Ends) -> None:
        super().__init__(ends, weighed_there=False)

    def send(self, op: Op, sizes: Sequence[int]) -> None:
        del sizes
        ends, tokens, mine = self.ends, tokens_of(op), slice(self.ends.mine.start, self.ends.mine.stop)
        everyone = self.count(op, lambda ids: ids, ends.cuts[-1].stop)
        sent = [int(everyone[ends.rank, cut.start : cut.stop].sum()) for cut in ends.cuts]
        received: list[int] = everyone[:, mine].sum(1).tolist()
        self._counts[tokens] = sent, received

        def rows() -> list[Swap]:
            _, _, weights = ends.buffers.get("routed", tokens)
            swaps = self.swaps(op, ends.buffers.get("outgoing", tokens), (sent, received))
            # blocks arrive in rank order, each sorted by expert; made here, as a copy from the host would wait for it
            (told,) = ends.buffers.get("counts", tokens)
            to_me = told[:, mine].reshape(-1)
            numbers = torch.arange(len(ends.mine), dtype=torch.int32, device=weights.device).repeat(len(ends.cuts))
            ids = torch.repeat_interleave(numbers, to_me.long(), output_size=sum(received))[:, None]
            incoming = (one.incoming for one in swaps)
            ends.buffers.put("received", op, *incoming, ids, weights.new_ones(len(ids), 1))
            return swaps

        ends.meeting.swap(ends.stream, rows)

    def compute(self, op: Op, tables: ExpertTables) -> None:
        ends = self.ends
        *rows, ids, once = ends.buffers.get("received", tokens_of(op))
        computed = ends.arithmetic.experts(ends.arrived(rows), ids, once, tables, max(1, len(ids)))
        ends.buffers.put("computed", op, computed)
