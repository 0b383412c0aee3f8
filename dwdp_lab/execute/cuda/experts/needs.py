"""What an order needs of the experts on a rank, and whether the scenario asks for something that cannot be had."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dwdp_lab.execute.cuda.experts.staging import Place
from dwdp_lab.execute.cuda.experts.store_plan import StorePlan
from dwdp_lab.execute.messages import Order
from dwdp_lab.program.operation import ALL_REDUCES
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.shares import Share, share_of

MOST_MAPPINGS = 100_000
"""Of one process; drivers have been seen to refuse more than about 130,000."""
MOST_PARTS = 5
"""Of one parameter's range in the view `composite`: pulled, edge, local, edge, pulled."""
MOST_COPIES = 2_000_000
"""Prepared for a run. With a few microseconds of the host each, so many take longer than any step should."""


class Need(NamedTuple):
    """`shard`, `pulls` and `gathers` are the same on all ranks."""

    shard: bool
    """The rank's local experts, where peers can reach them."""
    pulls: bool
    gathers: bool
    """An all-gather of weights fills the slots."""
    exchanges: bool
    """Tokens travel, and every rank computes its cut."""
    whole: bool
    """All experts of the layers without a slot."""
    layers: tuple[int, ...]
    """The decoder layers that the rank computes."""
    share: Share | None
    places: tuple[Place, ...]
    slots: int


def need_of(order: Order, rank: int) -> Need:
    """What the rank's program and all ranks' kinds of operations ask for."""
    kinds, ops, scenario = order.kinds, order.program.ops, order.scenario
    exchanges = bool(kinds & {"dispatch", "gather_tokens"})
    shard = exchanges or bool(kinds & {"pull", "merge", "gather_weights"})
    without_slot = any(op.kind == "experts" and op.slot is None for op in ops)
    layers = sorted({op.layer for op in ops if op.kind == "attention"})
    places = sorted({(op.layer, op.slot) for op in ops if op.slot is not None})
    return Need(
        shard=shard,
        pulls="pull" in kinds,
        gathers="gather_weights" in kinds,
        exchanges=exchanges,
        whole=without_slot and not exchanges,
        layers=tuple(layers) if order.in_micro_batches else tuple(range(scenario.model.layers)),
        share=share_of(scenario.model, scenario.ranks, rank) if kinds & ALL_REDUCES else None,
        places=tuple(places),
        slots=1 + max((slot for _, slot in places), default=-1),
    )


def check_copies(scenario: Scenario, places: int, copies: int) -> None:
    """Raises ScenarioError for more copies than anyone can want."""
    if places * copies > MOST_COPIES:
        raise ScenarioError(
            "strategy.slice_bytes",
            scenario.strategy.slice_bytes,
            f"gives {copies} copies for each of {places} pulls; at most {MOST_COPIES} in all are prepared",
            "take larger slices or fewer layers",
        )


def check_mappings(scenario: Scenario, own: StorePlan, peers: Sequence[StorePlan], places: int) -> None:
    """Raises ScenarioError when a process would map too many blocks."""
    parts = sum(MOST_PARTS for _ in own.shard.parameters)
    needed = len(own.blocks) + sum(len(peer.blocks) for peer in peers) + parts * places
    if needed > MOST_MAPPINGS:
        raise ScenarioError(
            "model.layers",
            scenario.model.layers,
            f"the rank would map {needed} blocks of memory; the driver takes about {MOST_MAPPINGS}",
            "take fewer layers, ranks or slots, or the weight view split",
        )
