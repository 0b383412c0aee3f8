"""DEP: data-parallel attention, expert-parallel MoE. Tokens travel to the experts and back, twice a barrier a layer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

from dwdp_lab.program.operation import Kind, Op
from dwdp_lab.program.rank_view import RankView


def dep(rank: RankView) -> Iterator[Op]:
    out: Kind = "dispatch"
    back: Kind = "combine"
    if dep_form(rank) == "all_gather":
        out, back = "gather_tokens", "reduce_tokens"
    hidden_ready: tuple[str, ...] = ()
    for step in rank.all_steps:  # also those in which this rank has no tokens: its experts are needed
        for layer in rank.layers:
            yield rank.attention(step, layer, waits=hidden_ready)
            hidden_ready = ()
            if layer in rank.moe_layers:
                yield rank.route(step, layer, signals="routed")
                yield rank.send(out, step, layer, waits=("routed",), signals="received")
                yield rank.computed_experts(step, layer, waits=("received",), signals="computed")
                yield rank.send(back, step, layer, waits=("computed",), signals="returned")
                hidden_ready = ("returned",)
            else:
                yield rank.dense(step, layer)


ENOUGH = 0.9
"""An all-to-all is worth its irregular messages when it moves at most this share of the all-gather form's bytes."""


def dep_form(rank: RankView) -> Literal["all_to_all", "all_gather"]:
    """The form in use; `auto` takes the one that moves fewer bytes.

    The all-gather form sends a token to all N - 1 peers, the all-to-all only to those that have experts it visits.
    """
    form = rank.knobs.dep_form
    if form != "auto":
        return form
    ranks = rank.scenario.ranks
    copies = math.fsum(rank.amounts.copies_to(peer, rank.moe_layers[0]) for peer in range(ranks)) * (ranks - 1) / ranks
    return "all_to_all" if copies <= ENOUGH * (ranks - 1) else "all_gather"
