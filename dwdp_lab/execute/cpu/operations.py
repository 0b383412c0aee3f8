"""What each kind of operation does on a CPU rank. Which lane it runs on, and when, is not known here."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dwdp_lab.execute.cpu.exchange_all_gather import AllGatherExchange
from dwdp_lab.execute.cpu.exchange_per_expert import PerExpertExchange
from dwdp_lab.execute.cpu.exchange_per_rank import PerRankExchange
from dwdp_lab.execute.cpu.exchange_rows import Exchange
from dwdp_lab.execute.cpu.setup import Place, Setup
from dwdp_lab.model.layers import Routing, add_experts, attention, dense_mlp, experts, route, shared_experts
from dwdp_lab.program.operation import Kind, Op


class Computation:
    """One run of one rank: the hidden states on their way through the layers, and what operations hand on.

    Lanes call it from their own threads. Each entry is written by one operation and read by those that wait
    for it, so the program's events are all the order it needs.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.shape = setup.scenario.model
        self.hidden: list[Tensor] = list(setup.inputs)  # per step
        self.routing: dict[Place, Routing] = {}
        self._exchanges: dict[Place, Exchange] = {}
        self._shared: dict[Place, Tensor | None] = {}
        self._kinds: dict[Kind, Callable[[Op], None]] = {
            "attention": self._attention,
            "dense": self._dense,
            "route": self._route,
            "experts": self._experts,
            "pull": self._pull,
            "merge": self._merge,
            "dispatch": self._dispatch,
            "combine": self._receive_experts,
            "gather_tokens": self._gather_tokens,
            "reduce_tokens": self._receive_experts,
            "gather_weights": self._gather_weights,
        }

    def perform(self, op: Op) -> None:
        """Do one operation."""
        with torch.inference_mode():
            self._kinds[op.kind](op)

    def _attention(self, op: Op) -> None:
        weights, batch = self.setup.layers[op.layer], self.setup.batches[op.step]
        cache = self.setup.kv_cache[place_of(op)]
        self.hidden[op.step] = attention(self.shape, weights, self.hidden[op.step], batch, cache, op.layer)

    def _dense(self, op: Op) -> None:
        self.hidden[op.step] = dense_mlp(self.shape, self.setup.layers[op.layer], self.hidden[op.step])

    def _route(self, op: Op) -> None:
        self.routing[place_of(op)] = route(self.shape, self.setup.layers[op.layer], self.hidden[op.step])

    def _experts(self, op: Op) -> None:
        weights, place = self.setup.experts(op), place_of(op)
        routing = self.routing[place]
        if place in self._exchanges:
            self._exchanges[place].compute(weights)
            # shared experts are on every rank, so a token's stay at home
            self._shared[place] = shared_experts(self.shape, self.setup.layers[op.layer], routing.normed)
            return
        routed = experts(self.shape, routing, weights.w13, weights.w2)
        shared = shared_experts(self.shape, self.setup.layers[op.layer], routing.normed)
        self.hidden[op.step] = add_experts(self.hidden[op.step], routed, shared)

    def _pull(self, op: Op) -> None:
        setup = self.setup
        setup.staged.pull(setup.slices, setup.peers, op.layer, slot_of(op), setup.copy_gbps)

    def _merge(self, op: Op) -> None:
        self.setup.staged.merge(op.layer, slot_of(op))

    def _dispatch(self, op: Op) -> None:
        setup = self.setup
        per_rank = setup.scenario.strategy.dep_rows == "per_rank"
        form = PerRankExchange if per_rank else PerExpertExchange
        self._exchanges[place_of(op)] = form(self.routing[place_of(op)], setup.cuts, setup.rank)

    def _gather_tokens(self, op: Op) -> None:
        setup, routing = self.setup, self.routing[place_of(op)]
        self._exchanges[place_of(op)] = AllGatherExchange(routing, setup.cuts, setup.rank, setup.tokens(op.step))

    def _receive_experts(self, op: Op) -> None:
        routed = self._exchanges.pop(place_of(op)).finish()
        self.hidden[op.step] = add_experts(self.hidden[op.step], routed, self._shared.pop(place_of(op)))

    def _gather_weights(self, op: Op) -> None:
        self.setup.weight_exchange.gather(op.layer, self.setup.staged.slots[slot_of(op)])


def place_of(op: Op) -> Place:
    return op.step, op.layer


def slot_of(op: Op) -> int:
    """The operation's slot; raises ValueError for one that has none."""
    if op.slot is None:
        raise ValueError(f"{op} needs a slot")
    return op.slot
