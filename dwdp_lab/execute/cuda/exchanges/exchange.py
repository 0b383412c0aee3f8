"""DEP's traffic of one layer: tokens out to the ranks that keep their experts, results back home.

In every form a rank computes no row of another's experts, and in every all-to-all it gets no row that it has no use
for. What is on its way lies in buffers: `routed` is read; `received`, `computed` and `returned` are written.

To experts in e4m3 rows go as these take them, quantised, with a scale each: half the bytes, and the same result. Their
way back is in the model's type.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from dwdp_kernels.e4m3 import E4M3, Quantised
from dwdp_kernels.grouped_mlp import Rows
from torch import Tensor

from dwdp_lab.execute.cuda.compute.arithmetic import Arithmetic, ExpertTables
from dwdp_lab.execute.cuda.compute.buffers import Buffers
from dwdp_lab.execute.cuda.gpu.device import Device, Stream
from dwdp_lab.execute.cuda.meetings.meeting import Meeting
from dwdp_lab.execute.tokens import tokens_of
from dwdp_lab.program.operation import Op


class Ends(NamedTuple):
    """What every exchange needs of its rank. `cuts[r]` are the experts that rank r computes, all of E among them."""

    device: Device
    stream: Stream
    meeting: Meeting
    arithmetic: Arithmetic
    buffers: Buffers
    cuts: tuple[range, ...]
    rank: int
    top_k: int
    scaled: bool
    """Whether experts are in e4m3."""

    @property
    def mine(self) -> range:
        return self.cuts[self.rank]

    @property
    def owners(self) -> list[int]:
        """The rank that computes each expert."""
        return [rank for rank, cut in enumerate(self.cuts) for _ in cut]

    def visits(self, tokens: int) -> int:
        """About how many of the visits of so many tokens are to this rank's experts."""
        return max(1, tokens * self.top_k * len(self.mine) // self.cuts[-1].stop)

    def quantise(self, op: Op) -> None:
        """On the ends' stream: what goes to experts becomes `outgoing`, one tensor, or elements as bytes and scales."""

        def work() -> None:
            normed, _, _ = self.buffers.get("routed", tokens_of(op))
            if self.scaled:
                values, scales = self.arithmetic.quantise(normed)
                self.buffers.put("outgoing", op, values.view(torch.uint8), scales)
            else:
                self.buffers.put("outgoing", op, normed)

        self.stream.run(work)

    def arrived(self, parts: Sequence[Tensor]) -> Rows:
        """What goes into the experts, of `outgoing` parts from anywhere."""
        return Quantised(parts[0].view(E4M3), parts[1]) if self.scaled else parts[0]


class Exchange(Protocol):
    """`send` and `fetch` queue on the ends' stream; `compute` launches on the current one."""

    def send(self, op: Op, sizes: Sequence[int]) -> None:
        """Bring every rank the tokens that visit its experts; `sizes[r]` is how many rank r has."""

    def compute(self, op: Op, tables: ExpertTables) -> None:
        """This rank's experts for what it received."""

    def fetch(self, op: Op, sizes: Sequence[int]) -> None:
        """Bring the results home: `returned` [T, H] for this rank's own tokens."""
