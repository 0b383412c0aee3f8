"""What a rank keeps between runs, so that the next strategy on the same model starts at once."""

from __future__ import annotations

from contextlib import ExitStack

from dwdp_lab.execute.cuda.experts.expert_store import ExpertStore
from dwdp_lab.execute.cuda.experts.map_peers import map_peers
from dwdp_lab.execute.cuda.experts.needs import Need, need_of
from dwdp_lab.execute.cuda.experts.prepare_experts import prepare_experts
from dwdp_lab.execute.cuda.experts.resident import AllExperts, all_experts
from dwdp_lab.execute.cuda.experts.run_experts import RunExperts
from dwdp_lab.execute.cuda.experts.store_plan import StorePlan
from dwdp_lab.execute.cuda.gpu.device import Device
from dwdp_lab.execute.cuda.meetings.open_mailboxes import OpenMailboxes
from dwdp_lab.execute.cuda.memory.choose_transport import choose_transport
from dwdp_lab.execute.cuda.memory.legacy_ipc import Ipc
from dwdp_lab.execute.cuda.memory.transport import Transport
from dwdp_lab.execute.messages import Order
from dwdp_lab.execute.rank_session import RankSession
from dwdp_lab.model.narrow import narrow_layer
from dwdp_lab.model.weights import LayerWeights, drawn, layer_weights
from dwdp_lab.program.mailbox import mailbox_bytes
from dwdp_lab.program.memory import ledger
from dwdp_lab.program.placement import Placement, placement
from dwdp_lab.scenario.model_shape import ModelShape
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.shares import Share

ModelKey = tuple[ModelShape, int, float]
Part = tuple[tuple[int, ...], Share | None]
"""Which layers, and which share of them (None: all of each)."""


class Kept:
    """Weights of one model (shape, seed, skew) on one device, which another model replaces, and the group's mailboxes.

    What an order does not need is kept only where all fits side by side.
    """

    def __init__(self, device: Device, ipc: Ipc | None = None) -> None:
        self.device = device
        self.ipc = ipc
        self.transport: Transport | None = None
        self.model: ModelKey | None = None
        self.layers: dict[int, LayerWeights] = {}
        """The replicated weights of the order prepared last, by decoder layer."""
        self.part: Part | None = None
        self.whole: AllExperts = {}
        self.shard: ExpertStore | None = None
        self.placement: Placement | None = None
        self.peers: dict[int, tuple[int, StorePlan]] | None = None
        """Of those that this rank pulls from: where the store lies here, and its form. None before it was mapped."""
        self._mapped_peers = ExitStack()
        self._mailboxes: OpenMailboxes | None = None
        self._run: RunExperts | None = None

    def prepare(self, session: RankSession, order: Order) -> RunExperts:
        """All that the order's program needs of the experts, and `layers`. All ranks call this together.

        Closes what the order before it had prepared. Raises ScenarioError, DriverError, NoTransport and torch's
        out-of-memory error; nothing of this order is left then but what would be kept anyway.
        """
        self._end_run()
        scenario = order.scenario
        need = need_of(order, session.rank)
        self._use(session, scenario)
        self._make_room(session, scenario, need)
        self._use_part(scenario, need)
        if need.shard:
            self._hold_shard(session, scenario)
        if need.pulls and self.peers is None and self.shard is not None:
            self.peers, self._mapped_peers = map_peers(session, scenario, self.shard)
        peers = self.peers if need.pulls and self.peers is not None else {}
        shard = self.shard if need.shard else None
        self._run = prepare_experts(scenario, need, session.rank, self.device, self.whole, shard, peers)
        return self._run

    def reach_peers(self, session: RankSession) -> Transport:
        """How ranks share memory, chosen once. All ranks call this together. Raises NoTransport."""
        if self.transport is None:
            self.transport = choose_transport(session, self.device.memory, self.ipc, self.device.torch_device)
        return self.transport

    def reach_mailboxes(self, session: RankSession) -> OpenMailboxes:
        """The group's mailboxes, or why there are none; tried once, and again where memory was short.

        All ranks call this together. Raises NoTransport.
        """
        if self._mailboxes is None or self._mailboxes.short_of_memory:
            self._mailboxes = OpenMailboxes(session, self.device, self.reach_peers(session))
        return self._mailboxes

    def close_mailboxes(self, session: RankSession) -> None:
        """Give the mailboxes back until they are asked for again. All ranks call this together."""
        if self._mailboxes is not None and self._mailboxes.boxes is not None:
            self._mailboxes.close(session)
            self._mailboxes = None

    def close(self) -> None:
        """Give everything back but the mailboxes. Peers must have let go of this rank's memory, or end with it."""
        self._end_run()
        self.device.synchronize()
        self._drop_part()
        self._let_go_of_peers()
        self._drop_shard()
        self.model = None

    def _end_run(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            run.close()

    def _use(self, session: RankSession, scenario: Scenario) -> None:
        """Drop what belongs to another model or placement."""
        model = scenario.model, scenario.workload.seed, scenario.workload.router_skew
        if model != self.model:
            self._drop_part()
        if self.shard is not None and (model, placement(scenario)) != (self.model, self.placement):
            self._drop_shard_together(session)
        self.model = model

    def _make_room(self, session: RankSession, scenario: Scenario, need: Need) -> None:
        """Drop what the order does not need where that and what it needs may not fit side by side."""
        here = str(self.device.torch_device), self.device.memory.available()
        gathered, _ = session.gather("free memory", here)
        devices = [device for device, _ in gathered]
        name = scenario.strategy.name
        needed = ledger(scenario, name).total + mailbox_bytes(scenario, name)
        if all(available >= needed * devices.count(device) for device, available in gathered):
            return
        if not need.whole:
            self.whole = {}
        if not need.shard and self.shard is not None:
            self._drop_shard_together(session)
        if not mailbox_bytes(scenario, name):
            self.close_mailboxes(session)
        # ranks that share a device make nothing new before all of them have given back
        session.gather("room made", self.device.memory.available())

    def _use_part(self, scenario: Scenario, need: Need) -> None:
        """The replicated weights and, where needed, all experts of the order's layers, made unless they are here."""
        shape, workload, device = scenario.model, scenario.workload, self.device.torch_device
        if self.part != (need.layers, need.share):
            self._drop_part()
            for layer in need.layers:
                weights = layer_weights(shape, layer, workload.seed, workload.router_skew, device)
                self.layers[layer] = weights if need.share is None else narrow_layer(shape, weights, need.share)
            self.part = need.layers, need.share
        if need.whole and not self.whole:
            moe_layers = [layer for layer in need.layers if shape.has_experts(layer)]
            self.whole = all_experts(shape, moe_layers, need.share, drawn(shape, workload.seed, device), device)

    def _hold_shard(self, session: RankSession, scenario: Scenario) -> None:
        """Make this rank's shard unless it is here."""
        transport = self.reach_peers(session)
        if self.shard is None:
            where = placement(scenario)
            plan = StorePlan(scenario.model, where.local(session.rank), transport.page)
            shard = ExpertStore(plan, transport, self.device)
            try:
                shard.fill(drawn(scenario.model, scenario.workload.seed, self.device.torch_device))
            except BaseException:
                shard.close()
                raise
            self.shard, self.placement = shard, where

    def _drop_part(self) -> None:
        self.whole, self.layers, self.part = {}, {}, None

    def _drop_shard_together(self, session: RankSession) -> None:
        """All ranks: nobody's memory goes before everybody has let go of it, as CUDA IPC demands."""
        self._let_go_of_peers()
        session.gather("let go of peers", None)
        self._drop_shard()

    def _let_go_of_peers(self) -> None:
        self.peers = None
        self._mapped_peers.close()

    def _drop_shard(self) -> None:
        shard, self.shard = self.shard, None
        self.placement = None
        if shard is not None:
            shard.close()
