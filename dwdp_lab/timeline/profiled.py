"""One step of a run once more, under a profiler: what ran within its operations. No part of the run's timeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dwdp_lab.timeline.span import Span


class KernelSpan(NamedTuple):
    """One kernel or copy of a GPU, or one of torch's operations on a CPU. Times on the run's clock, in microseconds."""

    rank: int
    lane: str
    """Or, for a stream that belongs to none, `stream` and its number."""
    name: str
    start_us: float
    end_us: float
    nbytes: float = 0.0
    """Of a copy; 0 if unknown."""
    of: str = ""
    """The operation that launched it, such as `experts L3`; empty if unknown."""


@dataclass(frozen=True)
class Profiled:
    """The step of that number, repeated after the run. Times count from the run's start, so it lies behind the run.

    `spans` are its operations, timed as in the run; `kernels` are the profiler's. Both have been laid on the ranks'
    clock, together within `clock_error_us`. No kernel lies further than `outside_us` outside its operation's span: what
    both clocks, together with the profiler's own idea of the GPU's, are off by.
    """

    step: int
    spans: tuple[Span, ...]
    kernels: tuple[KernelSpan, ...]
    clock_error_us: float
    outside_us: float


def together(parts: Sequence[Profiled]) -> Profiled | None:
    """All ranks' parts of one step as one; None of none."""
    if not parts:
        return None
    return Profiled(
        step=parts[0].step,
        spans=tuple(span for part in parts for span in part.spans),
        kernels=tuple(kernel for part in parts for kernel in part.kernels),
        clock_error_us=max(part.clock_error_us for part in parts),
        outside_us=max(part.outside_us for part in parts),
    )
