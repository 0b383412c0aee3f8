"""What a strategy sees of its rank: the steps and layers, and how to write each operation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from dwdp_lab.program.operation import Collective, Kind, Op, Work
from dwdp_lab.program.pull_plan import pull_of
from dwdp_lab.program.work import WorkModel
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.strategy import Strategy

Works = tuple[Work, ...]
Events = tuple[str, ...]


@dataclass(frozen=True)
class RankView:
    """One rank of one scenario. Its methods make operations with their work and bytes filled in; the strategy decides
    their order, waits and signals."""

    rank: int
    scenario: Scenario
    amounts: WorkModel
    _known: dict[tuple[str, int, int], Works] = field(default_factory=dict, repr=False)
    _sent: dict[tuple[str, int, int], Collective] = field(default_factory=dict, repr=False)

    @property
    def knobs(self) -> Strategy:
        return self.scenario.strategy

    @cached_property
    def layers(self) -> range:
        """All decoder layers."""
        return range(self.scenario.model.layers)

    @cached_property
    def moe_layers(self) -> range:
        """The layers that have experts: all after the leading dense ones."""
        return range(self.scenario.model.dense_layers, self.scenario.model.layers)

    @cached_property
    def all_steps(self) -> range:
        """Every step of the group, also those in which this rank has no tokens."""
        return range(self.scenario.batches.steps)

    @cached_property
    def busy_steps(self) -> tuple[int, ...]:
        """The steps in which this rank has tokens; a rank that is independent runs only these."""
        return tuple(step for step in self.all_steps if self.tokens(step))

    def tokens(self, step: int) -> int:
        """New tokens of this rank in a step."""
        return self.scenario.batches.tokens(self.rank, step)

    def _once(self, name: str, step: int, variant: int, make: Callable[[], Works]) -> Works:
        """Most layers do the same work: one object for all of them."""
        key = (name, step, variant)
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]

    def _routing_variant(self, layer: int) -> int:
        return layer if self.scenario.workload.router_skew else 0

    def attention(self, step: int, layer: int, waits: Events = ()) -> Op:
        """Norm, projections and causal attention, residual added."""
        batch = self.scenario.batches.by_rank[self.rank][step]
        work = self._once("attention", step, layer % 2, lambda: self.amounts.attention(batch, layer))
        return Op("attention", "compute", step, layer, waits, None, work)

    def dense(self, step: int, layer: int) -> Op:
        """The MLP of a dense layer."""
        work = self._once("dense", step, 0, lambda: self.amounts.dense(self.tokens(step)))
        return Op("dense", "compute", step, layer, (), None, work)

    def route(self, step: int, layer: int, signals: str | None = None) -> Op:
        """Router and top-k."""
        work = self._once("route", step, 0, lambda: self.amounts.route(self.tokens(step)))
        return Op("route", "compute", step, layer, (), signals, work)

    def experts(
        self, step: int, layer: int, waits: Events = (), signals: str | None = None, slot: int | None = None
    ) -> Op:
        """All experts for the rank's own tokens, reading remote weights from `slot` (None: all are resident)."""
        variant = self._routing_variant(layer)
        work = self._once("experts", step, variant, lambda: self.amounts.experts(self.tokens(step), layer))
        return Op("experts", "compute", step, layer, waits, signals, work, slot=slot)

    def computed_experts(self, step: int, layer: int, waits: Events, signals: str) -> Op:
        """The experts this rank owns, for the tokens all ranks sent."""
        variant = self._routing_variant(layer)
        work = self._once("computed", step, variant, lambda: self.amounts.computed_experts(self.rank, step, layer))
        return Op("experts", "compute", step, layer, waits, signals, work)

    def pull(self, step: int, layer: int, slot: int, waits: Events, signals: str) -> Op:
        """Copy the layer's remote experts into a slot, by copy engine."""
        return Op("pull", "copy", step, layer, waits, signals, pull=pull_of(self.scenario, self.rank), slot=slot)

    def merge(self, step: int, layer: int, slot: int) -> Op:
        """Copy the local experts into the slot beside the pulled ones (view `merged`)."""
        work = self._once("merge", 0, 0, self.amounts.merge)
        return Op("merge", "compute", step, layer, (), None, work, slot=slot)

    def gather_weights(self, step: int, layer: int, slot: int, waits: Events, signals: str) -> Op:
        """All-gather the layer's experts, the rank's own too, into a slot: a collective of all ranks."""
        amount = self.amounts.gather_weights(self.rank)
        return Op("gather_weights", "comm", step, layer, waits, signals, collective=amount, slot=slot)

    def send(self, kind: Kind, step: int, layer: int, waits: Events, signals: str) -> Op:
        """A collective that moves tokens: to the experts (dispatch, gather_tokens) or back."""
        key = (kind, step, self._routing_variant(layer))
        if key not in self._sent:
            self._sent[key] = self._amount(kind, step, layer)
        return Op(kind, "comm", step, layer, waits, signals, collective=self._sent[key])

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
