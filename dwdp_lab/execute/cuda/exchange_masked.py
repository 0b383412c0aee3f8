"""DEP's all-to-all that the host never waits in: a token's row travels to the ranks that have any of its experts.

How many rows go where only the device knows, so what is received has room for all ranks' tokens, as in the all-gather
form, each in its place. Experts and weights of all tokens go to everyone, as they are tiny (so do e4m3 rows' scales);
rows go where a mask, made of them on the device, tells that they are wanted. Those that were not sent are undefined:
no visit of theirs is to an expert here, so nothing reads them. Back home come the sums of visited ranks alone, which
are added in rank order: the all-gather form's result bit for bit, where the other ranks' sums are zeros.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dwdp_lab.execute.cuda.arithmetic import ExpertTables
from dwdp_lab.execute.cuda.exchange import Ends
from dwdp_lab.execute.cuda.exchange_all_gather import AllGatherExchange
from dwdp_lab.execute.cuda.meeting import Gathering, Sums
from dwdp_lab.execute.tokens import tokens_of
from dwdp_lab.program.operation import Op


class MaskedExchange:
    """The all-to-all with one row per (token, rank), for a meeting that leaves rows out."""

    def __init__(self, ends: Ends) -> None:
        self.ends = ends
        owners = [rank for rank, cut in enumerate(ends.cuts) for _ in cut]
        self.owner_of_expert = torch.tensor(owners, dtype=torch.int32, device=ends.device.torch_device)
        self._all_gather = AllGatherExchange(ends)

    def send(self, op: Op, sizes: Sequence[int]) -> None:
        ends, total = self.ends, sum(sizes)

        def shares() -> list[Gathering]:
            _, ids, weights = ends.buffers.get("routed", tokens_of(op))
            own = (*ends.buffers.get("outgoing", tokens_of(op)), ids, weights)
            everyone = [part.new_empty(total, *part.shape[1:]) for part in own]
            ends.buffers.put("received", op, *everyone)
            rows, *others = (Gathering(*pair, sizes) for pair in zip(own, everyone, strict=True))
            return [rows._replace(wanted=self._visited(ids)), *others]

        ends.quantise(op)
        ends.meeting.gather(ends.stream, shares)

    def compute(self, op: Op, tables: ExpertTables) -> None:
        self._all_gather.compute(op, tables)

    def fetch(self, op: Op, sizes: Sequence[int]) -> None:
        ends = self.ends

        def sums() -> Sums:
            (partial,) = ends.buffers.get("computed", tokens_of(op))
            *_, ids, _ = ends.buffers.get("received", tokens_of(op))
            own = partial.new_empty(sizes[ends.rank], partial.shape[1])
            ends.buffers.put("returned", op, own)
            return Sums(partial, own, sizes, self._visited(ids))

        ends.meeting.scatter_sums(ends.stream, sums)

    def _visited(self, ids: Tensor) -> Tensor:
        """[N, T] bool, on the device: whether a rank has an expert of a token."""
        return self.ends.arithmetic.visited_ranks(ids, self.owner_of_expert, len(self.ends.cuts))
