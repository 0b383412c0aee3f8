"""What each operation reads and writes: the checker's knowledge of the machines, kept apart from what strategies say.

A strategy decides order, waits and signals; it cannot leave an access out. Buffers are as the machines keep them: the
states of a step's tokens, one set per step, so that steps may interleave, and the staging slots, which hold one
layer's weights whatever the step.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from dwdp_lab.program.operation import Op


class Access(NamedTuple):
    """A buffer, and the contents it must hold (read) or gets (written)."""

    buffer: str
    contents: str


class Accesses(NamedTuple):
    """All that one operation touches."""

    reads: tuple[Access, ...] = ()
    writes: tuple[Access, ...] = ()


@lru_cache(maxsize=4096)
def state(name: str, step: int, layer: int) -> Access:
    """What a layer leaves of a step's tokens: `attended`, `routed`, `received`, `computed`, or its output `hidden`."""
    return Access(f"{name}, step {step}", f"layer {layer}, step {step}")


def pulled(slot: int | None, layer: int) -> Access:
    """The remote experts in a slot."""
    return Access(f"slot {slot}", f"layer {layer}")


def merged(slot: int | None, layer: int) -> Access:
    """The local experts in a slot (view `merged`)."""
    return Access(f"slot {slot} local part", f"layer {layer}")


def accesses(op: Op, exchanged: bool, view_is_merged: bool) -> Accesses:
    """What the operation reads and writes on every machine.

    `exchanged`: the tokens of its step and layer are sent to the experts' ranks, so experts compute what was received.
    """
    step, layer = op.step, op.layer
    match op.kind:
        case "attention":
            before = (state("hidden", step, layer - 1),) if layer else ()
            return Accesses(before, (state("attended", step, layer),))
        case "dense":
            return Accesses((state("attended", step, layer),), (state("hidden", step, layer),))
        case "route":
            return Accesses((state("attended", step, layer),), (state("routed", step, layer),))
        case "dispatch" | "gather_tokens":
            return Accesses((state("routed", step, layer),), (state("received", step, layer),))
        case "combine" | "reduce_tokens":
            return Accesses((state("computed", step, layer),), (state("hidden", step, layer),))
        case "pull":
            return Accesses((), (pulled(op.slot, layer),))
        case "merge":
            return Accesses((), (merged(op.slot, layer),))
        case "gather_weights":  # brings the rank's own experts too
            return Accesses((), (pulled(op.slot, layer), merged(op.slot, layer)))
        case "experts":
            routed = state("routed", step, layer)
            if exchanged:
                return Accesses((routed, state("received", step, layer)), (state("computed", step, layer),))
            weights: tuple[Access, ...] = ()
            if op.slot is not None:
                local = (merged(op.slot, layer),) if view_is_merged else ()
                weights = (pulled(op.slot, layer), *local)
            return Accesses((routed, *weights), (state("hidden", step, layer),))
