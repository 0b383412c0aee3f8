"""DEP's traffic of one layer: tokens out to the ranks that keep their experts, results back home.

In every form a rank computes no row of another's experts, and in both all-to-alls it gets no row that it has no use
for. What is on its way lies in buffers: `routed` is read; `received`, `computed` and `returned` are written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from dwdp_lab.execute.cuda.arithmetic import Arithmetic, ExpertTables
from dwdp_lab.execute.cuda.buffers import Buffers
from dwdp_lab.execute.cuda.device import Device, Stream
from dwdp_lab.execute.cuda.meeting import Meeting
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

    @property
    def mine(self) -> range:
        return self.cuts[self.rank]

    def visits(self, tokens: int) -> int:
        """About how many of the visits of so many tokens are to this rank's experts."""
        return max(1, tokens * self.top_k * len(self.mine) // self.cuts[-1].stop)


class Exchange(Protocol):
    """`send` and `fetch` queue on the ends' stream; `compute` launches on the current one."""

    def send(self, op: Op, sizes: Sequence[int]) -> None:
        """Bring every rank the tokens that visit its experts; `sizes[r]` is how many rank r has."""

    def compute(self, op: Op, tables: ExpertTables) -> None:
        """This rank's experts for what it received."""

    def fetch(self, op: Op, sizes: Sequence[int]) -> None:
        """Bring the results home: `returned` [T, H] for this rank's own tokens."""
