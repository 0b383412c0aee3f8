"""What each operation reads and writes: the checker's knowledge of the machines, kept apart from what strategies say.

A strategy decides order, waits and signals; it cannot leave an access out. Buffers are as the machines keep them: the
states of a step's tokens, one set per step (and micro-batch), so that steps may interleave, and the staging slots,
which hold one layer's weights whatever the step.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from dwdp_lab.program.operation import ALL_REDUCES, Op


class Access(NamedTuple):
    """A buffer, and the contents it must hold (read) or gets (written)."""

    buffer: str
    contents: str


class Accesses(NamedTuple):
    """All that one operation touches."""

    reads: tuple[Access, ...] = ()
    writes: tuple[Access, ...] = ()


class Shared(NamedTuple):
    """What a rank's other operations make of its attention, experts and dense layers."""

    exchanged: frozenset[tuple[int, int]]
    """(step, layer) whose tokens are sent to the experts' ranks, so that experts compute what was received."""
    reduced: bool
    """All-reduces add up what the ranks compute, so that attention and MLPs give parts of sums."""


def shared(ops: Iterable[Op]) -> Shared:
    """What a rank's operations share with other ranks'."""
    ops = tuple(ops)
    sent = frozenset((op.step, op.layer) for op in ops if op.kind in ("dispatch", "gather_tokens"))
    return Shared(sent, any(op.kind in ALL_REDUCES for op in ops))


@lru_cache(maxsize=4096)
def state(name: str, step: int, layer: int, micro: int | None = None) -> Access:
    """What a layer leaves of a step's tokens: `attended`, `routed`, `received`, `computed`, or its output `hidden`;
    `attention part` is what an all-reduce makes `attended` of."""
    tokens = f"step {step}" if micro is None else f"step {step}, micro-batch {micro}"
    return Access(f"{name}, {tokens}", f"layer {layer}, {tokens}")


def pulled(slot: int | None, layer: int) -> Access:
    """The remote experts in a slot."""
    return Access(f"slot {slot}", f"layer {layer}")


def merged(slot: int | None, layer: int) -> Access:
    """The local experts in a slot (view `merged`)."""
    return Access(f"slot {slot} local part", f"layer {layer}")


def accesses(op: Op, others: Shared, view_is_merged: bool) -> Accesses:
    """What the operation reads and writes on every machine."""
    step, layer, micro = op.step, op.layer, op.micro

    def of(name: str, layer: int = layer) -> Access:
        return state(name, step, layer, micro)

    match op.kind:
        case "attention":
            before = (of("hidden", layer - 1),) if layer else ()
            return Accesses(before, (of("attention part" if others.reduced else "attended"),))
        case "all_reduce_attention":  # adds what went into the attention, too
            before = (of("hidden", layer - 1),) if layer else ()
            return Accesses((of("attention part"), *before), (of("attended"),))
        case "dense":
            return Accesses((of("attended"),), (of("computed" if others.reduced else "hidden"),))
        case "route":
            return Accesses((of("attended"),), (of("routed"),))
        case "dispatch" | "gather_tokens":
            return Accesses((of("routed"),), (of("received"),))
        case "combine" | "reduce_tokens":
            return Accesses((of("computed"),), (of("hidden"),))
        case "all_reduce_mlp":  # adds what went into the MLP, too
            return Accesses((of("computed"), of("attended")), (of("hidden"),))
        case "send":
            return Accesses((of("hidden", layer - 1),))
        case "recv":
            return Accesses((), (of("hidden", layer - 1),))
        case "pull":  # only a pull of routed experts needs to know which these are
            before = (of("routed"),) if op.pull is not None and op.pull.routed else ()
            return Accesses(before, (pulled(op.slot, layer),))
        case "merge":
            return Accesses((), (merged(op.slot, layer),))
        case "gather_weights":  # brings the rank's own experts too
            return Accesses((), (pulled(op.slot, layer), merged(op.slot, layer)))
        case "experts":
            routed = of("routed")
            if (step, layer) in others.exchanged:
                return Accesses((routed, of("received")), (of("computed"),))
            weights: tuple[Access, ...] = ()
            if op.slot is not None:
                local = (merged(op.slot, layer),) if view_is_merged else ()
                weights = (pulled(op.slot, layer), *local)
            return Accesses((routed, *weights), (of("computed" if others.reduced else "hidden"),))
