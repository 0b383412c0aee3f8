"""What calibration measures, and what is known of it: compute, pulls and collectives with their times. No torch."""

from __future__ import annotations

from typing import NamedTuple

from dwdp_lab.program.operation import Kind, Unit, Work


class ComputeSample(NamedTuple):
    """Pieces of work that ran one after another, alone on their rank: an operation (`kind`), or a single kernel."""

    what: str
    kind: Kind | None
    work: tuple[Work, ...]
    us: float


class PullSample(NamedTuple):
    """One pull of so many bytes in so many copies."""

    nbytes: float
    copies: float
    us: float


class ExchangeSample(NamedTuple):
    """One collective: what the busiest rank sends or receives; from when ranks were there to when they went on."""

    kind: Kind
    nbytes: float
    us: float


class SlowedSample(NamedTuple):
    """An operation's time beside a pull that ran all the while, over its time without."""

    kind: Kind
    ratio: float


UNITS_OF: dict[Kind, tuple[Unit, ...]] = {
    "attention": ("gemm", "attention", "activations", "memory"),
    "experts": ("grouped_gemm",),
}
"""Which units the slowdown of an operation stands for."""
