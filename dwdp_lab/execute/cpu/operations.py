"""What each kind of operation does on a CPU rank. Which lane it runs on, and when, is not known here."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dwdp_lab.execute.cpu.all_reduce import all_reduce
from dwdp_lab.execute.cpu.exchange_all_gather import AllGatherExchange
from dwdp_lab.execute.cpu.exchange_per_expert import PerExpertExchange
from dwdp_lab.execute.cpu.exchange_per_rank import PerRankExchange
from dwdp_lab.execute.cpu.exchange_rows import Exchange
from dwdp_lab.execute.cpu.message import receive, send
from dwdp_lab.execute.cpu.setup import Setup
from dwdp_lab.execute.tokens import Place, Tokens, place_of, tokens_of
from dwdp_lab.model.layers import (
    Routing,
    add_experts,
    attended,
    attention,
    dense_mlp,
    dense_output,
    experts,
    route,
    shared_experts,
)
from dwdp_lab.program.operation import Kind, Op
from dwdp_lab.program.pull_plan import pull_plan


class Computation:
    """One run of one rank: the hidden states on their way through the layers, and what operations hand on.

    Lanes call it from their own threads. Each entry is written by one operation and read by those that wait
    for it, so the program's events are all the order it needs.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.shape = setup.shape
        self.hidden: dict[Tokens, Tensor] = dict(setup.inputs)  # what goes into the next layer
        self.routing: dict[Place, Routing] = {}
        self.pulled_bytes: dict[Place, int] = {}
        self._attended: dict[Tokens, Tensor] = {}
        self._part: dict[Tokens, Tensor] = {}  # of a sum over ranks
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
            "all_reduce_attention": self._all_reduce_attention,
            "all_reduce_mlp": self._all_reduce_mlp,
            "send": self._send,
            "recv": self._recv,
        }

    def perform(self, op: Op) -> None:
        """Do one operation."""
        with torch.inference_mode():
            self._kinds[op.kind](op)

    def _attention(self, op: Op) -> None:
        setup, tokens = self.setup, tokens_of(op)
        weights, batch, cache = setup.layers[op.layer], setup.batches[tokens], setup.kv_cache[place_of(op)]
        hidden = self.hidden[tokens]
        if setup.share is None:
            self._attended[tokens] = attention(self.shape, weights, hidden, batch, cache, op.layer)
        elif setup.share.heads:
            self._part[tokens] = attended(self.shape, weights, hidden, batch, cache, op.layer, setup.kv_of_head)
        else:
            self._part[tokens] = torch.zeros_like(hidden)

    def _dense(self, op: Op) -> None:
        weights, tokens = self.setup.layers[op.layer], tokens_of(op)
        if self.setup.share is None:
            self.hidden[tokens] = dense_mlp(self.shape, weights, self._attended.pop(tokens))
        else:
            self._part[tokens] = dense_output(self.shape, weights, self._attended[tokens])

    def _route(self, op: Op) -> None:
        self.routing[place_of(op)] = route(self.shape, self.setup.layers[op.layer], self._attended[tokens_of(op)])

    def _experts(self, op: Op) -> None:
        weights, place, tokens = self.setup.experts(op), place_of(op), tokens_of(op)
        routing = self.routing[place]
        if place in self._exchanges:
            self._exchanges[place].compute(weights)
            # shared experts are on every rank, so a token's stay at home
            self._shared[place] = shared_experts(self.shape, self.setup.layers[op.layer], routing.normed)
            return
        routed = experts(self.shape, routing, weights.w13, weights.w2)
        shared = shared_experts(self.shape, self.setup.layers[op.layer], routing.normed)
        if self.setup.share is None:
            self.hidden[tokens] = add_experts(self._attended.pop(tokens), routed, shared)
        else:
            self._part[tokens] = routed if shared is None else routed + shared

    def _all_reduce_attention(self, op: Op) -> None:
        tokens = tokens_of(op)
        self._attended[tokens] = self.hidden[tokens] + self._sum(tokens)

    def _all_reduce_mlp(self, op: Op) -> None:
        tokens = tokens_of(op)
        self.hidden[tokens] = self._attended.pop(tokens) + self._sum(tokens)

    def _sum(self, tokens: Tokens) -> Tensor:
        return all_reduce(self._part.pop(tokens), self.setup.scenario.ranks, self.setup.rank)

    def _send(self, op: Op) -> None:
        send(self.hidden[tokens_of(op)], peer_of(op), self.setup.copy_gbps)

    def _recv(self, op: Op) -> None:
        tokens = tokens_of(op)
        rows = sum(chunk.new_tokens for chunk in self.setup.batches[tokens])
        self.hidden[tokens] = receive(rows, self.shape.hidden, self.setup.dtype, peer_of(op))

    def _pull(self, op: Op) -> None:
        setup, slices = self.setup, self.setup.slices
        if op.pull is not None and op.pull.routed:
            visited = set(self.routing[place_of(op)].ids.flatten().tolist())
            slices = pull_plan(setup.scenario, setup.rank, visited).slices
        self.pulled_bytes[place_of(op)] = sum(piece.nbytes for piece in slices)
        setup.staged.pull(slices, setup.peers, op.layer, slot_of(op), setup.copy_gbps)

    def _merge(self, op: Op) -> None:
        self.setup.staged.merge(op.layer, slot_of(op))

    def _dispatch(self, op: Op) -> None:
        setup = self.setup
        per_rank = setup.scenario.strategy.dep_rows == "per_rank"
        form = PerRankExchange if per_rank else PerExpertExchange
        self._exchanges[place_of(op)] = form(self.routing[place_of(op)], setup.cuts, setup.rank, setup.scaled)

    def _gather_tokens(self, op: Op) -> None:
        setup, routing = self.setup, self.routing[place_of(op)]
        self._exchanges[place_of(op)] = AllGatherExchange(
            routing, setup.cuts, setup.rank, setup.tokens(op.step), setup.scaled
        )

    def _receive_experts(self, op: Op) -> None:
        routed = self._exchanges.pop(place_of(op)).finish()
        tokens = tokens_of(op)
        self.hidden[tokens] = add_experts(self._attended.pop(tokens), routed, self._shared.pop(place_of(op)))

    def _gather_weights(self, op: Op) -> None:
        self.setup.weight_exchange.gather(op.layer, self.setup.staged.slots[slot_of(op)])


def slot_of(op: Op) -> int:
    """The operation's slot; raises ValueError for one that has none."""
    if op.slot is None:
        raise ValueError(f"{op} needs a slot")
    return op.slot


def peer_of(op: Op) -> int:
    """The other end of a message; raises ValueError for one that has none."""
    if op.peer is None:
        raise ValueError(f"{op} needs a peer")
    return op.peer
