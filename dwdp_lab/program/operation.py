"""Operations: the one language that strategies write and that the simulator, CPU ranks and GPU ranks run.

A program is the list of one rank's operations in *issue order*. Each operation runs on one lane; a lane runs its
operations one after another, in issue order. Between lanes only events order things, with the meaning of CUDA
events: `waits` refers to the last operation issued *before* this one that `signals` that name, and a name may be
signalled again. (On a GPU a wait for an event nobody recorded yet passes at once; the checker refuses it.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from dwdp_lab.scenario.precision import Precision

Lane = Literal["compute", "copy", "comm"]
LANES: tuple[Lane, ...] = ("compute", "copy", "comm")

Kind = Literal[
    "attention",
    "dense",
    "route",
    "experts",
    "pull",
    "merge",
    "dispatch",
    "combine",
    "gather_tokens",
    "reduce_tokens",
    "gather_weights",
]
COLLECTIVES: frozenset[Kind] = frozenset({"dispatch", "combine", "gather_tokens", "reduce_tokens", "gather_weights"})
"""Kinds that start only when all ranks have reached them."""


def lane_of(kind: Kind) -> Lane:
    """The lane that a machine runs a kind on: collectives of one rank never overlap, and neither do its pulls."""
    if kind in COLLECTIVES:
        return "comm"
    return "copy" if kind == "pull" else "compute"


Unit = Literal["gemm", "grouped_gemm", "attention", "activations", "memory"]
"""What a piece of work keeps busy; `activations` and `memory` (copies of weights) have no FLOPs."""


class Work(NamedTuple):
    """One roofline term: it takes max(flops / peak of `unit` in `dtype`, hbm_bytes / memory bandwidth)."""

    unit: Unit
    dtype: Precision
    flops: float
    hbm_bytes: float
    rows_per_expert: float = 0.0  # grouped GEMM: mean rows of the experts that have any


class Stage(NamedTuple):
    """Part of a pull during which bytes come from these peers at once, in proportion."""

    sources: tuple[tuple[int, float], ...]  # (peer, bytes)

    @property
    def nbytes(self) -> float:
        return sum(nbytes for _, nbytes in self.sources)


class Pull(NamedTuple):
    """What one pull moves, as the simulator sees it; the byte ranges are in the rank's PullPlan."""

    stages: tuple[Stage, ...]
    nbytes: float
    copies: int  # copy commands issued


class Collective(NamedTuple):
    """What this rank sends to each rank (bytes; its own entry is 0)."""

    sent_bytes: tuple[float, ...]


class Op(NamedTuple):
    """One operation of one rank."""

    kind: Kind
    lane: Lane
    step: int
    layer: int
    waits: tuple[str, ...] = ()
    signals: str | None = None
    work: tuple[Work, ...] = ()
    pull: Pull | None = None
    collective: Collective | None = None
    slot: int | None = None  # the staging slot that is filled, merged into or read

    def __str__(self) -> str:
        return f"{self.kind} of layer {self.layer}, step {self.step}"


@dataclass(frozen=True)
class Program:
    """All operations of one rank in issue order."""

    rank: int
    ops: tuple[Op, ...]


def awaited(ops: tuple[Op, ...]) -> tuple[tuple[int, ...], ...]:
    """For each operation, the indices of the operations whose signals it waits for.

    Raises LookupError for a wait that nothing before it signals.
    """
    last_signal: dict[str, int] = {}
    result: list[tuple[int, ...]] = []
    for index, op in enumerate(ops):
        try:
            result.append(tuple([last_signal[name] for name in op.waits]))
        except KeyError as missing:
            raise LookupError(f"{op} waits for {missing}, which nothing before it signals") from None
        if op.signals is not None:
            last_signal[op.signals] = index
    return tuple(result)
