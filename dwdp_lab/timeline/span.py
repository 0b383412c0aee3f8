"""Spans and timelines: what the simulator, CPU ranks and GPU ranks all return."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Provenance = Literal["limit", "simulated", "calibrated", "measured", "recorded"]
Machine = Literal["sim", "cpu", "cuda"]


class Span(NamedTuple):
    """One operation as it ran. Times in microseconds on one clock for all ranks, 0 at the run's start.

    A collective gives two spans on its lane: `wait_peers` from this rank's arrival to the last rank's, then
    the collective itself. So does a message, on both of its ranks; its bytes are the sender's. `nbytes` is what
    was moved (copies, collectives) or read and written (compute); 0 if unknown.
    """

    rank: int
    lane: str
    kind: str
    step: int
    layer: int
    start_us: float
    end_us: float
    nbytes: float = 0.0
    flops: float = 0.0

    @property
    def duration_us(self) -> float:
        return self.end_us - self.start_us


@dataclass(frozen=True)
class Timeline:
    """One run of one strategy. `tokens[r]` are the new tokens of rank r's requests in all steps."""

    spans: tuple[Span, ...]
    strategy: str
    machine: Machine
    provenance: Provenance
    tokens: tuple[int, ...]
    steps: int
    notes: tuple[str, ...] = ()
    """What a reader must know beside the provenance, such as `copies paced to 4 GB/s`."""
    environment: dict[str, Any] = field(default_factory=dict)
    """Device, versions and date of a measured run; the hardware profile of a simulated one."""

    @property
    def ranks(self) -> int:
        return len(self.tokens)
