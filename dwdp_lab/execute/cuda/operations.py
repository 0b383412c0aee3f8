"""What each kind of operation queues on its lane's stream. When it may start is not known here.

What runs on a stream is a function without arguments. On a GPU it is called at once and launches kernels; what it reads
of other operations is therefore looked up inside it, so that it works as well where the call comes later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from dwdp_kernels.grouped_mlp import ExpertRows
from torch import Tensor

from dwdp_lab.execute.cpu.operations import peer_of, slot_of
from dwdp_lab.execute.cuda.compute.arithmetic import Arithmetic
from dwdp_lab.execute.cuda.compute.buffers import Buffers
from dwdp_lab.execute.cuda.compute.decoder_layers import attended, dense_output, route
from dwdp_lab.execute.cuda.exchanges.all_gather import AllGatherExchange
from dwdp_lab.execute.cuda.exchanges.exchange import Ends, Exchange
from dwdp_lab.execute.cuda.exchanges.host_read import read
from dwdp_lab.execute.cuda.exchanges.masked import MaskedExchange
from dwdp_lab.execute.cuda.exchanges.per_expert import PerExpertExchange
from dwdp_lab.execute.cuda.exchanges.per_rank import PerRankExchange
from dwdp_lab.execute.cuda.gpu.device import Device, Stream
from dwdp_lab.execute.cuda.meetings.meeting import Gathering
from dwdp_lab.execute.cuda.setup import Setup
from dwdp_lab.execute.tokens import Place, Tokens, place_of, tokens_of
from dwdp_lab.model.layers import Routing, shared_experts
from dwdp_lab.model.supported import SCALED
from dwdp_lab.program.operation import Kind, Lane, Op

Whole = Literal["attended", "hidden"]
"""The hidden states after a layer's attention, and after its MLP."""


class Computation:
    """One run of one rank: the hidden states on their way through the layers, and what operations hand on."""

    def __init__(self, setup: Setup, device: Device, streams: Mapping[Lane, Stream], arithmetic: Arithmetic) -> None:
        self.setup = setup
        self.device = device
        self.streams = streams
        self.arithmetic = arithmetic.beside_collectives() if setup.beside_collectives else arithmetic
        self.buffers = Buffers({lane: stream for lane, stream in streams.items() if lane in setup.lanes})
        self.chosen: dict[Place, Tensor] = {}
        """The experts [T, k] int32 that each MoE layer chose, if they are asked for."""
        self.pulled_bytes: dict[Place, int] = {}
        self._forms = self._exchange_forms() if setup.meeting is not None else {}
        self._exchanges: dict[Place, Exchange] = {}
        self._kinds: dict[Kind, Callable[[Op, Stream], None]] = {
            "attention": self._attention,
            "dense": self._dense,
            "route": self._route,
            "experts": self._experts,
            "pull": self._pull,
            "merge": self._merge,
            "dispatch": self._send_tokens,
            "combine": self._receive_experts,
            "gather_tokens": self._send_tokens,
            "reduce_tokens": self._receive_experts,
            "gather_weights": self._gather_weights,
            "all_reduce_attention": self._all_reduce_attention,
            "all_reduce_mlp": self._all_reduce_mlp,
            "send": self._send,
            "recv": self._recv,
        }

    def _exchange_forms(self) -> dict[Kind, Exchange]:
        setup, comm = self.setup, self.streams["comm"]
        cuts, top_k = setup.experts.cuts, setup.shape.top_k
        scaled = setup.shape.expert_dtype == SCALED
        ends = Ends(self.device, comm, setup.met, self.arithmetic, self.buffers, cuts, setup.rank, top_k, scaled)
        return {"dispatch": _all_to_all(ends, setup), "gather_tokens": AllGatherExchange(ends)}

    def queue(self, op: Op) -> None:
        """Queue one operation on its lane's stream."""
        self._kinds[op.kind](op, self.streams[op.lane])

    def end(self, op: Op) -> None:
        """The last operation on its tokens is queued: no more than the output is needed of them, if it is made here."""
        kept = "hidden" if self.is_output(tokens_of(op)) else None
        self.streams[op.lane].run(lambda: self.buffers.drop(tokens_of(op), but=kept))

    def close(self) -> None:
        """Give all tensors back now, after the device has done its work: this refers to itself, so that Python would
        only find out some time later."""
        self.buffers.clear()
        self.chosen.clear()

    def is_output(self, tokens: Tokens) -> bool:
        """Whether `hidden` becomes the output of these tokens: a micro-batch may get its last layer elsewhere."""
        step, micro = tokens
        return micro is None or (step, micro, self.setup.shape.layers - 1) in self.setup.attention

    def hidden(self, tokens: Tokens, layer: int) -> Tensor:
        """What goes into a layer, [T, H]; into the one after the last: the output. Layer 0 reads the inputs whatever a
        replay before this one has left."""
        found = self.buffers.find("hidden", tokens) if layer else ()
        return found[0] if found else self.setup.inputs[tokens]

    def _give(self, op: Op, whole: Whole, before: Tensor, added: Tensor) -> None:
        """The result of an operation that adds to the hidden states; of `tensor` a part of the sum alone."""
        if self.setup.share is None:
            self._add(op, whole, before, added)
        else:
            self.buffers.put("part", op, added)

    def _add(self, op: Op, whole: Whole, before: Tensor, added: Tensor) -> None:
        """The hidden states after a block, and with them the norm that the next block of this rank begins with: one
        pass over memory is quicker than two, above all beside pulls."""
        weight = self._following_norm(op, whole)
        if weight is None:
            self._put(op, whole, before + added)
        else:
            self._put(op, whole, *self.arithmetic.add_norm(before, added, weight, self.setup.shape.rms_eps))

    def _put(self, op: Op, whole: Whole, total: Tensor, *normed: Tensor) -> None:
        """Hidden states, and their norm if it was made with them; otherwise there is none any more."""
        self.buffers.put(whole, op, total)
        self.buffers.put(f"{whole} normed", op, *normed)

    def _following_norm(self, op: Op, whole: Whole) -> Tensor | None:
        """The weight of the norm that this rank's next block begins with; None if it has no such block."""
        if whole == "attended":
            return self.setup.layers[op.layer].post_norm
        following = self.setup.layers.get(op.layer + 1)
        return following.input_norm if following is not None and self.setup.attends else None

    def _normed(self, op: Op, whole: Whole, x: Tensor, weight: Tensor) -> Tensor:
        """The norm of the hidden states x that an operation's block begins with: made with them, or now."""
        made = self.buffers.take(f"{whole} normed", op)
        return made[0] if made else self.arithmetic.norm(x, weight, self.setup.shape.rms_eps)

    def _attention(self, op: Op, stream: Stream) -> None:
        setup, weights, known = self.setup, self.setup.layers[op.layer], self.setup.attention[place_of(op)]

        def work() -> None:
            hidden = self.hidden(tokens_of(op), op.layer)
            if setup.attends:
                normed = self._normed(op, "hidden", hidden, weights.input_norm)
                added = attended(self.arithmetic, setup.shape, weights, normed, known, op.layer, setup.kv_of_head)
            else:
                added = torch.zeros_like(hidden)
            self._give(op, "attended", hidden, added)

        stream.run(work)

    def _dense(self, op: Op, stream: Stream) -> None:
        weights = self.setup.layers[op.layer]

        def work() -> None:
            (before,) = self.buffers.get("attended", tokens_of(op))
            normed = self._normed(op, "attended", before, weights.post_norm)
            self._give(op, "hidden", before, dense_output(weights, normed))

        stream.run(work)

    def _route(self, op: Op, stream: Stream) -> None:
        weights, shape = self.setup.layers[op.layer], self.setup.shape

        def work() -> None:
            (before,) = self.buffers.get("attended", tokens_of(op))
            normed = self._normed(op, "attended", before, weights.post_norm)
            routing = route(self.arithmetic, shape, weights, normed)
            if self.setup.outputs:
                self.chosen[place_of(op)] = routing.ids
            # where an all-reduce made the norm, its memory is free for that lane again after the next layer's, which
            # comes after all that reads `routed`
            self.buffers.put("routed", op, *routing)

        stream.run(work)

    def _experts(self, op: Op, stream: Stream) -> None:
        tables, weights = self.setup.experts.tables(op.layer, op.slot), self.setup.layers[op.layer]
        exchange, tokens, shape = self._exchanges.get(place_of(op)), tokens_of(op), self.setup.shape

        def work() -> None:
            routing = Routing(*self.buffers.get("routed", tokens))
            shared = shared_experts(shape, weights, routing.normed)
            if exchange is not None:
                exchange.compute(op, tables)
                # shared experts are on every rank, so a token's stay at home
                self.buffers.put("shared", op, *(() if shared is None else (shared,)))
                return
            rows = self.arithmetic.visit_experts(*routing, tables, routing.ids.numel())
            self._add_experts(op, rows, routing.weights, shared)

        stream.run(work)

    def _add_experts(self, op: Op, rows: ExpertRows, weights: Tensor, shared: Tensor | None) -> None:
        """What `_give` does of a sum over expert rows, without one more pass over memory for the sum."""
        (before,) = self.buffers.get("attended", tokens_of(op))
        norm_weight, eps = self._following_norm(op, "hidden"), self.setup.shape.rms_eps
        if self.setup.share is not None:
            self.buffers.put("part", op, self.arithmetic.combine(*rows, weights, shared))
        elif norm_weight is None:
            self._put(op, "hidden", self.arithmetic.combine(*rows, weights, shared, before))
        else:
            self._put(op, "hidden", *self.arithmetic.combine_norm(*rows, weights, norm_weight, eps, shared, before))

    def _pull(self, op: Op, stream: Stream) -> None:
        experts, slot = self.setup.experts, slot_of(op)
        if op.pull is not None and op.pull.routed:
            copies = experts.copies_for(op.layer, slot, self._visited(op, stream))
        else:
            copies = experts.copies(op.layer, slot)
        self.pulled_bytes[place_of(op)] = sum(copy.nbytes for copy in copies)
        if copies:
            stream.copy(copies)

    def _visited(self, op: Op, stream: Stream) -> set[int]:
        """The experts that any of the tokens goes to. The host waits for them."""
        experts = self.setup.shape.experts

        def mark() -> None:
            _, ids, _ = self.buffers.get("routed", tokens_of(op))
            visited = torch.zeros(experts, dtype=torch.int32, device=ids.device)
            self.buffers.put("visited", op, visited.scatter_(0, ids.reshape(-1).long(), 1))

        stream.run(mark)
        visited = read(self.device, stream, self.buffers, "visited", op, (experts,))
        return set(visited.nonzero()[:, 0].tolist())

    def _merge(self, op: Op, stream: Stream) -> None:
        stream.run(lambda: self.setup.experts.merge(op.layer, slot_of(op)))

    def _send_tokens(self, op: Op, stream: Stream) -> None:
        del stream  # the exchange has it
        exchange = self._exchanges[place_of(op)] = self._forms[op.kind]
        exchange.send(op, self.setup.sizes(op.step))

    def _receive_experts(self, op: Op, stream: Stream) -> None:
        self._exchanges.pop(place_of(op)).fetch(op, self.setup.sizes(op.step))
        tokens = tokens_of(op)

        def work() -> None:
            (before,), (routed,) = self.buffers.get("attended", tokens), self.buffers.get("returned", tokens)
            shared = self.buffers.get("shared", tokens)
            self._add(op, "hidden", before, routed + shared[0] if shared else routed)

        stream.run(work)

    def _gather_weights(self, op: Op, stream: Stream) -> None:
        experts = self.setup.experts
        sizes = [len(cut) for cut in experts.cuts]

        def gatherings() -> list[Gathering]:
            own, slot = experts.local(op.layer), experts.slot(slot_of(op))
            return [Gathering(own[name], slot[name], sizes) for name in own]

        self.setup.met.gather(stream, gatherings)

    def _all_reduce_attention(self, op: Op, stream: Stream) -> None:
        self._add_up(op, stream, "attended", lambda: self.hidden(tokens_of(op), op.layer))

    def _all_reduce_mlp(self, op: Op, stream: Stream) -> None:
        self._add_up(op, stream, "hidden", lambda: self.buffers.get("attended", tokens_of(op))[0])

    def _add_up(self, op: Op, stream: Stream, whole: Whole, before: Callable[[], Tensor]) -> None:
        def part() -> Tensor:
            return self.buffers.get("part", tokens_of(op))[0]

        self.setup.met.add_up(stream, part)
        stream.run(lambda: self._add(op, whole, before(), part()))

    def _send(self, op: Op, stream: Stream) -> None:
        self.setup.met.send(stream, lambda: self.hidden(tokens_of(op), op.layer), peer_of(op))

    def _recv(self, op: Op, stream: Stream) -> None:
        setup, tokens = self.setup, tokens_of(op)

        def place() -> Tensor:
            size = setup.rows(tokens), setup.shape.hidden
            self._put(op, "hidden", torch.empty(size, dtype=setup.dtype, device=self.device.torch_device))
            return self.hidden(tokens, op.layer)

        setup.met.receive(stream, place, peer_of(op))


def _all_to_all(ends: Ends, setup: Setup) -> Exchange:
    """The host reads how many rows go where only where it has to."""
    if setup.scenario.strategy.dep_rows == "per_expert":
        return PerExpertExchange(ends)
    return MaskedExchange(ends) if ends.meeting.leaves_rows_out else PerRankExchange(ends)
