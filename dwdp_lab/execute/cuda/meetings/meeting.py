"""What ranks do together, as the CUDA machine asks for it: collectives and messages.

All are queued on a stream, and every rank queues the same collectives in the same order. What takes part is asked for
when its turn has come (`make`), so that tensors made there belong to the stream. Rows go in rank order, and `sizes`
tells how many each rank has: they need not have the same number.

Of some rows not all have a use. A mask tells so on the device, where the host need not read it: then a meeting that
`leaves_rows_out` does not move them, and others do as if there were no mask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from dwdp_lab.execute.cuda.gpu.device import Stream


class Gathering(NamedTuple):
    """Everyone's rows to everyone: `own` [sizes[rank], ...] into `everyone` [sum(sizes), ...]."""

    own: Tensor
    everyone: Tensor
    sizes: Sequence[int]
    wanted: Tensor | None = None
    """[N, sizes[rank]] bool: which rank has a use for which own row. What it has none for is undefined there."""


class Sums(NamedTuple):
    """Sums of everyone's rows, each to the rank it is for: `partial` [sum(sizes), H] to `own` [sizes[rank], H]."""

    partial: Tensor
    own: Tensor
    sizes: Sequence[int]
    given: Tensor | None = None
    """[N, sum(sizes)] bool, the same on all ranks: which rank's row counts for which sum. The others are zeros."""


class Swap(NamedTuple):
    """Some rows to each: `outgoing` [sum(sent), ...] to `incoming` [sum(received), ...]."""

    outgoing: Tensor
    incoming: Tensor
    sent: Sequence[int]
    received: Sequence[int]


class Meeting(Protocol):
    """One rank's end of all collectives of a group."""

    notes: tuple[str, ...]
    """What a reader of measured times must know about how rows travel."""
    holds_processors: bool
    """Whether what waits for other ranks, or is under way, keeps processors of the GPU meanwhile."""
    leaves_rows_out: bool
    """Whether rows that a mask tells nobody has a use for stay where they are."""

    def gather(self, stream: Stream, make: Callable[[], Sequence[Gathering]]) -> None:
        """All-gather, several at once."""

    def scatter_sums(self, stream: Stream, make: Callable[[], Sums]) -> None:
        """Reduce-scatter; sums of more than two ranks may be rounded in between."""

    def add_up(self, stream: Stream, make: Callable[[], Tensor]) -> None:
        """All-reduce: the tensor becomes the sum of all ranks', which may be rounded in between."""

    def swap(self, stream: Stream, make: Callable[[], Sequence[Swap]]) -> None:
        """All-to-all, one after another."""

    def send(self, stream: Stream, make: Callable[[], Tensor], peer: int) -> None:
        """Rows to one other rank. Two ranks' messages keep their order."""

    def receive(self, stream: Stream, make: Callable[[], Tensor], peer: int) -> None:
        """Fill the tensor with the rows that a rank sends."""

    def deal(self, parts: Sequence[Any]) -> list[Any]:
        """parts[r] goes to rank r, through the host; what all ranks had for this one, in rank order. Blocks."""


def even(sizes: Sequence[int]) -> bool:
    """All ranks have the same number of rows, so that the plain form of a collective will do."""
    return len(set(sizes)) == 1
