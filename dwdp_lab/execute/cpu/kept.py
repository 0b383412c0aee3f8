"""What a rank keeps between runs, so that the next strategy on the same model starts at once."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from dwdp_lab.execute.cpu.expert_store import ExpertStore
from dwdp_lab.execute.cpu.shared_memory import Mapping
from dwdp_lab.execute.rank_session import RankSession
from dwdp_lab.model.weights import LayerWeights, layer_weights
from dwdp_lab.program.placement import Placement
from dwdp_lab.scenario.model_shape import ModelShape
from dwdp_lab.scenario.scenario import Scenario

ModelKey = tuple[ModelShape, int, float]


@dataclass
class Kept:
    """Weights of one model (shape, seed, skew). Another model replaces them all."""

    model: ModelKey | None = None
    layers: list[LayerWeights] = field(default_factory=list)
    whole: ExpertStore | None = None  # all experts, for `replicated`
    shard: ExpertStore | None = None  # the local ones, which peers read
    placement: Placement | None = None
    peers: list[Mapping] = field(default_factory=list)  # every rank's shard, read-only, in rank order

    def use(self, scenario: Scenario) -> None:
        """Make the replicated weights of the scenario's model, unless they are here."""
        workload = scenario.workload
        model = scenario.model, workload.seed, workload.router_skew
        if model == self.model:
            return
        self._drop_whole()
        self._drop_shard()
        self.layers = [
            layer_weights(scenario.model, layer, workload.seed, workload.router_skew)
            for layer in range(scenario.model.layers)
        ]
        self.model = model

    def all_experts(self, scenario: Scenario) -> ExpertStore:
        """Every expert on this rank."""
        if self.whole is None:
            shape = scenario.model
            self.whole = ExpertStore(shape, range(shape.experts), scenario.workload.seed)
        return self.whole

    def local_experts(self, scenario: Scenario, where: Placement, session: RankSession) -> ExpertStore:
        """This rank's shard, with all ranks' shards mapped in `peers`. All ranks must call this together."""
        if self.shard is None or where != self.placement:
            self._drop_shard()
            shard = ExpertStore(scenario.model, where.local(session.rank), scenario.workload.seed)
            _, fds = session.gather("shards", None, [shard.fd])
            self.peers = [Mapping(fd, shard.nbytes, writable=False) for fd in fds]
            for fd in fds:
                os.close(fd)
            self.shard, self.placement = shard, where
        return self.shard

    def _drop_whole(self) -> None:
        if self.whole is not None:
            self.whole.close()
            self.whole = None

    def _drop_shard(self) -> None:
        for peer in self.peers:
            peer.close()
        self.peers = []
        if self.shard is not None:
            self.shard.close()
            self.shard = None
