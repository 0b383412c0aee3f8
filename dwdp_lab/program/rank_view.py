"""What a strategy sees of its rank: the steps and layers, and how to write each operation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from dwdp_lab.program.micro_batches import MicroBatch
from dwdp_lab.program.operation import Collective, Kind, Op, Pull, Work
from dwdp_lab.program.pull_plan import pull_of, routed_pull_of
from dwdp_lab.program.work import WorkModel
from dwdp_lab.scenario.batches import Batch
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.shares import stage_of
from dwdp_lab.scenario.strategy import Strategy

Works = tuple[Work, ...]
Events = tuple[str, ...]


@dataclass(frozen=True)
class RankView:
    """One rank of one scenario. Its methods make operations with their work and bytes filled in; the strategy decides
    their order, waits and signals.

    `micro` makes an operation work on a micro-batch of the step instead of the rank's own batch. What a rank of
    `tensor` does is in program/tensor_view.py.
    """

    rank: int
    scenario: Scenario
    amounts: WorkModel
    _known: dict[tuple[str, int, int, int | None], Works] = field(default_factory=dict, repr=False)
    _sent: dict[tuple[str, int, int], Collective] = field(default_factory=dict, repr=False)
    _pulls: dict[tuple[int, int], Pull] = field(default_factory=dict, repr=False)

    @property
    def knobs(self) -> Strategy:
        return self.scenario.strategy

    @cached_property
    def layers(self) -> range:
        """All decoder layers."""
        return range(self.scenario.model.layers)

    @cached_property
    def moe_layers(self) -> Sequence[int]:
        """The layers that have experts."""
        return self.scenario.model.layers_with_experts

    @cached_property
    def all_steps(self) -> range:
        """Every step of the group, also those in which this rank has no tokens."""
        return range(self.scenario.batches.steps)

    @cached_property
    def busy_steps(self) -> tuple[int, ...]:
        """The steps in which this rank has tokens; a rank that is independent runs only these."""
        return tuple(step for step in self.all_steps if self.tokens(step))

    @cached_property
    def stages(self) -> tuple[range, ...]:
        """The layers that each rank of a pipeline keeps, by rank."""
        ranks = self.scenario.ranks
        return tuple(stage_of(self.scenario.model, ranks, rank) for rank in range(ranks))

    def micro_batches(self, step: int) -> tuple[MicroBatch, ...]:
        """The micro-batches of a step, of all ranks; an operation names one by its place here."""
        return self.amounts.micro_batches(step)

    def tokens(self, step: int, micro: int | None = None) -> int:
        """New tokens of this rank, or of a micro-batch, in a step."""
        if micro is not None:
            return self.micro_batches(step)[micro].tokens
        return self.scenario.batches.tokens(self.rank, step)

    def _batch(self, step: int, micro: int | None) -> Batch:
        if micro is not None:
            return self.micro_batches(step)[micro].batch
        return self.scenario.batches.by_rank[self.rank][step]

    def _once(self, name: str, step: int, variant: int, make: Callable[[], Works], micro: int | None = None) -> Works:
        """Most layers do the same work: one object for all of them."""
        key = (name, step, variant, micro)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = make()
        return known

    def _routing_variant(self, layer: int) -> int:
        return layer if self.scenario.workload.router_skew else 0

    def attention(self, step: int, layer: int, waits: Events = (), micro: int | None = None) -> Op:
        """Norm, projections and causal attention, residual added."""
        work = self._once(
            "attention", step, layer % 2, lambda: self.amounts.attention(self._batch(step, micro), layer), micro
        )
        return Op("attention", "compute", step, layer, waits, None, work, micro=micro)

    def dense(self, step: int, layer: int, signals: str | None = None, micro: int | None = None) -> Op:
        """The MLP of a dense layer."""
        work = self._once("dense", step, 0, lambda: self.amounts.dense(self.tokens(step, micro)), micro)
        return Op("dense", "compute", step, layer, (), signals, work, micro=micro)

    def route(self, step: int, layer: int, signals: str | None = None, micro: int | None = None) -> Op:
        """Router and top-k."""
        work = self._once("route", step, 0, lambda: self.amounts.route(self.tokens(step, micro)), micro)
        return Op("route", "compute", step, layer, (), signals, work, micro=micro)

    def experts(
        self,
        step: int,
        layer: int,
        waits: Events = (),
        signals: str | None = None,
        slot: int | None = None,
        micro: int | None = None,
    ) -> Op:
        """All experts for the rank's own tokens, reading remote weights from `slot` (None: all are resident)."""
        work = self._once("experts", step, 0, lambda: self.amounts.experts(self.tokens(step, micro)), micro)
        return Op("experts", "compute", step, layer, waits, signals, work, slot=slot, micro=micro)

    def computed_experts(self, step: int, layer: int, waits: Events, signals: str) -> Op:
        """The experts this rank owns, for the tokens all ranks sent."""
        variant = self._routing_variant(layer)
        work = self._once("computed", step, variant, lambda: self.amounts.computed_experts(self.rank, step, layer))
        return Op("experts", "compute", step, layer, waits, signals, work)

    def pull(self, step: int, layer: int, slot: int, waits: Events, signals: str) -> Op:
        """Copy the layer's remote experts into a slot, by copy engine."""
        return Op("pull", "copy", step, layer, waits, signals, pull=self._pulled(step, layer), slot=slot)

    def _pulled(self, step: int, layer: int) -> Pull:
        everything = self.knobs.pull == "all"
        key = (0, 0) if everything else (step, self._routing_variant(layer))
        if key not in self._pulls:
            if everything:
                self._pulls[key] = pull_of(self.scenario, self.rank)
            else:
                visited = self.amounts.visited(self.tokens(step), layer)
                self._pulls[key] = routed_pull_of(self.scenario, self.rank, visited)
        return self._pulls[key]

    def merge(self, step: int, layer: int, slot: int) -> Op:
        """Copy the local experts into the slot beside the pulled ones (view `merged`)."""
        work = self._once("merge", 0, 0, self.amounts.merge)
        return Op("merge", "compute", step, layer, (), None, work, slot=slot)

    def gather_weights(self, step: int, layer: int, slot: int, waits: Events, signals: str) -> Op:
        """All-gather the layer's experts, the rank's own too, into a slot: a collective of all ranks."""
        amount = self._sent_once("gather_weights", 0, 0, lambda: self.amounts.gather_weights(self.rank))
        return Op("gather_weights", "comm", step, layer, waits, signals, collective=amount, slot=slot)

    def send(self, kind: Kind, step: int, layer: int, waits: Events, signals: str) -> Op:
        """A collective that moves tokens: to the experts (dispatch, gather_tokens) or back."""
        variant = self._routing_variant(layer)
        amount = self._sent_once(kind, step, variant, lambda: self._amount(kind, step, layer))
        return Op(kind, "comm", step, layer, waits, signals, collective=amount)

    def _sent_once(self, kind: Kind, step: int, variant: int, make: Callable[[], Collective]) -> Collective:
        """Most layers send the same: one object for all of them."""
        key = (kind, step, variant)
        known = self._sent.get(key)
        if known is None:
            known = self._sent[key] = make()
        return known

    def send_hidden(self, step: int, layer: int, micro: int, to: int, waits: Events, signals: str | None = None) -> Op:
        """Send another rank the hidden states of a micro-batch: what goes into the layer."""
        amount = self.amounts.message(to, self.tokens(step, micro))
        return Op("send", "copy", step, layer, waits, signals, collective=amount, micro=micro, peer=to)

    def recv_hidden(self, step: int, layer: int, micro: int, source: int, signals: str, waits: Events = ()) -> Op:
        """Receive from another rank the hidden states of a micro-batch: what goes into the layer."""
        return Op("recv", "comm", step, layer, waits, signals, micro=micro, peer=source)

    def _amount(self, kind: Kind, step: int, layer: int) -> Collective:
        match kind:
            case "dispatch":
                return self.amounts.dispatch(self.rank, step, layer)
            case "combine":
                return self.amounts.combine(self.rank, step, layer)
            case "gather_tokens":
                return self.amounts.gather_tokens(self.rank, step)
            case "reduce_tokens":
                return self.amounts.reduce_tokens(self.rank, step)
            case _:
                raise ValueError(f"kind = {kind!r}: dispatch, combine, gather_tokens or reduce_tokens move tokens")


StrategyFunction = Callable[[RankView], Iterator[Op]]
"""A strategy: a rank's operations in issue order. Ours and a learner's have the same form."""
