"""What a rank prepares before a run is timed: weights, slots, peers' memory, inputs, caches."""

from __future__ import annotations

from dataclasses import dataclass, field

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
from dwdp_lab.model.inputs import cached_kv, hidden_inputs
from dwdp_lab.model.layers import KV
from dwdp_lab.model.weights import LayerWeights
from dwdp_lab.program.operation import COLLECTIVES, Kind, Op
from dwdp_lab.program.placement import placement
from dwdp_lab.program.pull_plan import Layout, Slice, pull_plan
from dwdp_lab.scenario.batches import Batch
from dwdp_lab.scenario.scenario import Scenario

Place = tuple[int, int]
"""(step, layer)"""


@dataclass
class Setup:
    """All that one run reads. `staging` and `exchange` are None for programs that need none."""

    scenario: Scenario
    rank: int
    layers: list[LayerWeights]
    batches: tuple[Batch, ...]
    inputs: list[Tensor]
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
    if kinds & COLLECTIVES:
        join_process_group(session)
    slotted = bool(kinds & {"pull", "merge", "gather_weights"})
    exchanged = bool(kinds & {"dispatch", "gather_tokens"})
    cuts = tuple(where.computed(peer) for peer in range(scenario.ranks))
    shard = kept.local_experts(scenario, where, session) if slotted or exchanged else None
    ops = order.program.ops
    if shard is None or (not exchanged and any(op.kind == "experts" and op.slot is None for op in ops)):
        store = kept.all_experts(scenario)
    else:
        store = shard
    batches = scenario.batches.by_rank[rank]
    setup = Setup(
        scenario=scenario,
        rank=rank,
        layers=kept.layers,
        batches=batches,
        inputs=[hidden_inputs(shape, batch, seed) for batch in batches],
        kv_cache={
            (step, layer): [cached_kv(shape, layer, chunk, seed) if chunk.context_tokens else None for chunk in batch]
            for step, batch in enumerate(batches)
            for layer in range(shape.layers)
        },
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
    if setup.copy_gbps is not None and "pull" in kinds:
        notes.append(f"copies paced to {setup.copy_gbps:g} GB/s")
    if setup.copy_gbps is not None and kinds & COLLECTIVES:
        notes.append("collectives not paced")
    if isinstance(setup.staging, CompositeStaging) and setup.staging.doubled_bytes:
        notes.append(
            "composite view keeps local experts twice, because their bytes fall differently on pages "
            "in the shard and among all experts"
        )
    return notes
