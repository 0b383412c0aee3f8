"""What a rank keeps between runs, so that the next strategy on the same model starts at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from dwdp_lab.execute.cpu.expert_store import ExpertStore, map_shards
from dwdp_lab.execute.cpu.shared_memory import Mapping
from dwdp_lab.execute.rank_session import RankSession
from dwdp_lab.model.narrow import narrow_layer
from dwdp_lab.model.weights import LayerWeights, drawn, layer_weights
from dwdp_lab.program.placement import Placement
from dwdp_lab.scenario.model_shape import ModelShape
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.shares import Share

ModelKey = tuple[ModelShape, int, float]
Layers = dict[int, LayerWeights]
Part = tuple[tuple[int, ...], Share | None]
"""Which layers, and which share of them (None: all of each)."""


@dataclass
class Kept:
    """Weights of one model (shape, seed, skew). Another model replaces them all."""

    model: ModelKey | None = None
    layers: dict[tuple[int, Share | None], LayerWeights] = field(default_factory=dict)
    whole: dict[Part, ExpertStore] = field(
        default_factory=dict
    )  # all experts of some layers, for strategies that move none
    shard: ExpertStore | None = None  # the local ones, which peers read
    placement: Placement | None = None
    peers: list[Mapping] = field(default_factory=list)  # every rank's shard, read-only, in rank order

    def use(self, scenario: Scenario) -> None:
        """What is kept is of the scenario's model from now on."""
        workload = scenario.workload
        model = scenario.model, workload.seed, workload.router_skew
        if model == self.model:
            return
        self._drop_whole()
        self._drop_shard()
        self.layers = {}
        self.model = model

    def replicated_layers(self, scenario: Scenario, wanted: Iterable[int], share: Share | None) -> Layers:
        """The weights that all ranks keep of these layers, or the share of them, made unless they are here."""
        shape, workload = scenario.model, scenario.workload
        for layer in wanted:
            if (layer, share) not in self.layers:
                weights = layer_weights(shape, layer, workload.seed, workload.router_skew)
                self.layers[layer, share] = weights if share is None else narrow_layer(shape, weights, share)
        return {layer: self.layers[layer, share] for layer in wanted}

    def all_experts(self, scenario: Scenario, wanted: Iterable[int], share: Share | None) -> ExpertStore:
        """Every expert of these layers on this rank, or the share of it."""
        shape = scenario.model
        moe_layers = tuple(layer for layer in wanted if shape.has_experts(layer))
        if (moe_layers, share) not in self.whole:
            store = ExpertStore(shape, range(shape.experts), drawn(shape, scenario.workload.seed), moe_layers, share)
            self.whole[moe_layers, share] = store
        return self.whole[moe_layers, share]

    def local_experts(self, scenario: Scenario, where: Placement, session: RankSession) -> ExpertStore:
        """This rank's shard, with all ranks' shards mapped in `peers`. All ranks must call this together."""
        if self.shard is None or where != self.placement:
            self._drop_shard()
            read = drawn(scenario.model, scenario.workload.seed)
            shard = ExpertStore(scenario.model, where.local(session.rank), read)
            self.peers = map_shards(session, shard)
            self.shard, self.placement = shard, where
        return self.shard

    def _drop_whole(self) -> None:
        for store in self.whole.values():
            store.close()
        self.whole = {}

    def _drop_shard(self) -> None:
        for peer in self.peers:
            peer.close()
        self.peers = []
        if self.shard is not None:
            self.shard.close()
            self.shard = None
