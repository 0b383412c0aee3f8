"""What a rank prepares before a run is timed: weights, slots, peers' memory, inputs, caches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dwdp_lab.execute.cpu.composite import CompositeStaging
from dwdp_lab.execute.cpu.expert_store import ExpertStore
from dwdp_lab.execute.cpu.kept import Kept
from dwdp_lab.execute.cpu.process_group import join_process_group
from dwdp_lab.execute.cpu.shared_memory import Mapping
from dwdp_lab.execute.cpu.staging import ExpertTensors, Staging, resident
from dwdp_lab.execute.cpu.weight_exchange import WeightExchange
from dwdp_lab.execute.messages import Order
from dwdp_lab.execute.rank_session import RankSession
from dwdp_lab.execute.tokens import Place, Tokens, place_of, token_batches, tokens_of
from dwdp_lab.model.inputs import cached_kv, hidden_inputs
from dwdp_lab.model.layers import KV
from dwdp_lab.model.narrow import kv_of_head, narrow_cache
from dwdp_lab.model.supported import SCALED, torch_dtype
from dwdp_lab.model.weights import LayerWeights
from dwdp_lab.program.operation import ALL_REDUCES, COLLECTIVES, MESSAGES, Kind, Op
from dwdp_lab.program.placement import placement
from dwdp_lab.program.pull_plan import Layout, Slice, pull_plan
from dwdp_lab.scenario.batches import Batch
from dwdp_lab.scenario.model_shape import ModelShape
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.shares import Share, narrowed, share_of


@dataclass
class Setup:
    """All that one run reads. `staging` and `exchange` are None for programs that need none; `share` is where each
    rank keeps all of its layers. `shape` is as wide as what the rank keeps."""

    scenario: Scenario
    rank: int
    share: Share | None
    shape: ModelShape
    layers: dict[int, LayerWeights]
    batches: dict[Tokens, Batch]
    inputs: dict[Tokens, Tensor]
    kv_cache: dict[Place, list[KV | None]]
    cuts: tuple[range, ...]  # the experts each rank computes under DEP
    store: ExpertStore  # the experts that need no slot, of which `resident` are computed
    resident: range
    peers: list[Mapping]
    slices: tuple[Slice, ...]
    staging: Staging | None
    exchange: WeightExchange | None
    copy_gbps: float | None
    notes: list[str] = field(default_factory=list)
    _resident: dict[int, ExpertTensors] = field(default_factory=dict)

    @property
    def staged(self) -> Staging:
        if self.staging is None:
            raise ValueError("the program has no operation that fills a slot")
        return self.staging

    @property
    def weight_exchange(self) -> WeightExchange:
        if self.exchange is None:
            raise ValueError("the program has no gather_weights")
        return self.exchange

    @property
    def dtype(self) -> torch.dtype:
        """What hidden states are kept in."""
        return torch_dtype(self.shape.dtype, "model.dtype")

    @property
    def scaled(self) -> bool:
        """Whether experts are in e4m3."""
        return self.shape.expert_dtype == SCALED

    @property
    def kv_of_head(self) -> list[int] | None:
        """Which of the rank's key heads each of its query heads looks at, where that is not as many each."""
        return None if self.share is None else kv_of_head(self.scenario.model, self.share)

    def tokens(self, step: int) -> list[int]:
        """New tokens of every rank in a step."""
        return [self.scenario.batches.tokens(rank, step) for rank in range(self.scenario.ranks)]

    def experts(self, op: Op) -> ExpertTensors:
        """The weights an `experts` operation reads: of a slot, or resident ones."""
        if op.slot is not None:
            return self.staged.weights(op.layer, op.slot)
        if op.layer not in self._resident:
            self._resident[op.layer] = resident(self.store, op.layer, self.resident)
        return self._resident[op.layer]

    def close(self) -> None:
        """Give back what only this run needed."""
        self._resident.clear()
        if self.staging is not None:
            self.staging.close()


def prepare(session: RankSession, kept: Kept, order: Order) -> Setup:
    """Everything for one order. Ranks prepare together: they hand each other memory and join a group."""
    scenario, kinds, rank = order.scenario, order.kinds, session.rank
    shape, seed = scenario.model, scenario.workload.seed
    where = placement(scenario)
    kept.use(scenario)
    if kinds & (COLLECTIVES | MESSAGES) or order.in_micro_batches:
        join_process_group(session)
    slotted = bool(kinds & {"pull", "merge", "gather_weights"})
    exchanged = bool(kinds & {"dispatch", "gather_tokens"})
    share = share_of(shape, scenario.ranks, rank) if kinds & ALL_REDUCES else None
    cuts = tuple(where.computed(peer) for peer in range(scenario.ranks))
    shard = kept.local_experts(scenario, where, session) if slotted or exchanged else None
    ops = order.program.ops
    layers = (
        sorted({op.layer for op in ops if op.kind == "attention"}) if order.in_micro_batches else range(shape.layers)
    )
    if shard is None or (not exchanged and any(op.kind == "experts" and op.slot is None for op in ops)):
        store = kept.all_experts(scenario, layers, share)
    else:
        store = shard
    batches = token_batches(order, rank)
    begun = {tokens_of(op) for op in ops if op.kind == "attention" and not op.layer}
    setup = Setup(
        scenario=scenario,
        rank=rank,
        share=share,
        shape=shape if share is None else narrowed(shape, share),
        layers=kept.replicated_layers(scenario, layers, share),
        batches=batches,
        inputs={
            tokens: hidden_inputs(shape, batch, seed)
            for tokens, batch in batches.items()
            if tokens in begun or not order.in_micro_batches
        },
        kv_cache=_caches(shape, seed, batches, ops, share),
        cuts=cuts,
        store=store,
        resident=cuts[rank] if exchanged else range(shape.experts),
        peers=kept.peers,
        slices=(),
        staging=None,
        exchange=None,
        copy_gbps=scenario.link_gbps,
    )
    if slotted and shard is not None:
        _add_slots(setup, shard, order)
    for op in ops:  # views are made here, not while the run is timed
        if op.kind == "experts":
            setup.experts(op)
    setup.notes += _notes(setup, kinds)
    return setup


def _caches(
    shape: ModelShape, seed: int, batches: dict[Tokens, Batch], ops: Sequence[Op], share: Share | None
) -> dict[Place, list[KV | None]]:
    """Keys and values of what each request has in the cache, for every attention, as far as the rank keeps them."""
    caches: dict[Place, list[KV | None]] = {}
    for op in ops:
        if op.kind == "attention":
            found = caches[place_of(op)] = []
            for chunk in batches[tokens_of(op)]:
                cached = cached_kv(shape, op.layer, chunk, seed) if chunk.context_tokens else None
                found.append(cached if cached is None or share is None else narrow_cache(cached, share))
    return caches


def _add_slots(setup: Setup, shard: ExpertStore, order: Order) -> None:
    scenario, rank = setup.scenario, setup.rank
    slots = 1 + max((op.slot for op in order.program.ops if op.slot is not None), default=0)
    if "gather_weights" in order.kinds:  # a slot then holds all experts, whatever the weight view
        layout = Layout(shard.layout.parameters, scenario.model.experts)
        setup.staging = Staging(shard, layout, slots)
        setup.exchange = WeightExchange(shard, layout, setup.cuts, rank)
        return
    plan = pull_plan(scenario, rank)
    setup.slices = plan.slices
    composite = scenario.strategy.weight_view == "composite"
    setup.staging = (CompositeStaging if composite else Staging)(shard, plan.slot, slots)


def _notes(setup: Setup, kinds: frozenset[Kind]) -> list[str]:
    notes = []
    if setup.copy_gbps is not None and kinds & {"pull", "send"}:
        notes.append(f"copies paced to {setup.copy_gbps:g} GB/s")
    if setup.copy_gbps is not None and kinds & COLLECTIVES:
        notes.append("collectives not paced")
    if isinstance(setup.staging, CompositeStaging) and setup.staging.doubled_bytes:
        notes.append(
            "composite view keeps local experts twice, because their bytes fall differently on pages "
            "in the shard and among all experts"
        )
    return notes
