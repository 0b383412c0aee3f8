"""Operations: the one language that strategies write and that the simulator, CPU ranks and GPU ranks run.

A program is the list of one rank's operations in *issue order*. Each operation runs on one lane; a lane runs its
operations one after another, in issue order. Between lanes only events order things, with the meaning of CUDA
events: `waits` refers to the last operation issued *before* this one that `signals` that name, and a name may be
signalled again. (On a GPU a wait for an event nobody recorded yet passes at once; the checker refuses it.)
"""

from __future__ import annotations

import math
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
    "all_reduce_attention",
    "all_reduce_mlp",
    "send",
    "recv",
]
ALL_REDUCES: frozenset[Kind] = frozenset({"all_reduce_attention", "all_reduce_mlp"})
"""Every rank gets the sum of all ranks' parts of a result [T, H], added in rank order, and adds the residual. A group
whose programs have any of these is split by `tensor`: each rank keeps its share of every layer (scenario/shares.py) and
works on the tokens of all ranks."""

COLLECTIVES: frozenset[Kind] = ALL_REDUCES.union(
    ("dispatch", "combine", "gather_tokens", "reduce_tokens", "gather_weights")
)
"""Kinds that start only when all ranks have reached them."""

MESSAGES: frozenset[Kind] = frozenset({"send", "recv"})
"""A micro-batch's hidden states go from one rank to another; both ends start only when both are there."""


def lane_of(kind: Kind) -> Lane:
    """The lane that a machine runs a kind on: collectives of one rank never overlap, and neither do its pulls.

    What is sent is written into the peer's memory as a pull is read from it, by a copy engine, on the copy lane. What
    is received comes on the other, so that a rank can send one micro-batch while it receives the next.
    """
    if kind in COLLECTIVES or kind == "recv":
        return "comm"
    return "copy" if kind in ("pull", "send") else "compute"


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
        return math.fsum(nbytes for _, nbytes in self.sources)


class Pull(NamedTuple):
    """What one pull moves, as the simulator sees it; the byte ranges are in the rank's PullPlan.

    `routed`: only the experts that the layer's tokens were routed to; then bytes and copies are expected values.
    """

    stages: tuple[Stage, ...]
    nbytes: float
    copies: float  # copy commands issued
    routed: bool = False


class Collective(NamedTuple):
    """What this rank sends to each rank (bytes; its own entry is 0).

    `once_per_node`: what leaves a node for another leaves it once for all ranks there, as collective libraries have it:
    sums are added up on a node before, and what every rank gets is passed on there after.
    """

    sent_bytes: tuple[float, ...]
    once_per_node: bool = False


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
    micro: int | None = None  # the micro-batch of the step that it works on; None: the rank's own batch
    peer: int | None = None  # the rank that a message goes to or comes from

    def __str__(self) -> str:
        micro = f", micro-batch {self.micro}" if self.micro is not None else ""
        return f"{self.kind} of layer {self.layer}, step {self.step}{micro}"


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
