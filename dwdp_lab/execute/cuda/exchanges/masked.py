"""DEP's all-to-all that the host never waits in: a token's row travels to the ranks that have any of its experts.

How many rows go where only the device knows, so what is received has room for all ranks' tokens, as in the all-gather
form, each in its place. Experts and weights of all tokens go to everyone, as they are tiny (so do e4m3 rows' scales);
rows go where a mask, made of them on the device, tells that they are wanted. Those that were not sent are undefined:
no visit of theirs is to an expert here, so nothing reads them. Back home come the sums of visited ranks alone, which
are added in rank order: the all-gather form's result bit for bit, where the other ranks' sums are zeros.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dwdp_lab.execute.cuda.exchanges.all_gather import AllGatherExchange
from dwdp_lab.execute.cuda.exchanges.exchange import Ends


class MaskedExchange(AllGatherExchange):
    """The all-to-all with one row per (token, rank), for a meeting that leaves rows out."""

    def __init__(self, ends: Ends) -> None:
        super().__init__(ends)
        self.owner_of_expert = torch.tensor(ends.owners, dtype=torch.int32, device=ends.device.torch_device)

    def visited(self, ids: Tensor) -> Tensor:
        """[N, T] bool, on the device: whether a rank has an expert of a token with experts [T, k]."""
        return self.ends.arithmetic.visited_ranks(ids, self.owner_of_expert, len(self.ends.cuts))
