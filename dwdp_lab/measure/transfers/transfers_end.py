"""What measuring asks of one rank's end of the transfers: memory to share, memory to copy to, and timed copies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from dwdp_lab.measure.transfers.transfers import Case
from dwdp_lab.program.pull_plan import Slice


class Timing(NamedTuple):
    """When copies ran, and from when to when the host issued them, in nanoseconds of its monotonic clock."""

    start_ns: float
    end_ns: float
    issuing_ns: float
    issued_ns: float
    page_faults: int = 0
    marks_ns: tuple[float, ...] = ()
    clock_error_us: float = 0.0


class CopyEnd(Protocol):
    """One rank's memory and copies. `shared[p]` is rank p's shared memory as this rank reaches it (uint8)."""

    shared: Sequence[Tensor]
    notes: list[str]

    def target(self, nbytes: int) -> Tensor:
        """The first bytes of this rank's target (uint8)."""

    def evict(self) -> None:
        """Write so much other memory that caches hold neither target nor source."""

    def copy(self, slices: Sequence[Slice], start_ns: int, case: Case) -> Timing:
        """Copy in the case's way at `start_ns` of the monotonic clock, or as soon after as possible.

        A slice's offset in the target counts from GUARD bytes after its beginning.
        """

    def settle(self) -> None:
        """Wait until all that was asked for has happened."""

    def close(self) -> None:
        """Give all memory back."""
