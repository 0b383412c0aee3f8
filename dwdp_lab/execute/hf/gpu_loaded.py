"""What a GPU rank has loaded of a checkpoint, kept for its next run."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from dwdp_lab.execute.cuda.experts.expert_store import ExpertStore
from dwdp_lab.execute.cuda.experts.map_peers import Peers, map_peers
from dwdp_lab.execute.cuda.experts.resident import AllExperts, all_experts
from dwdp_lab.execute.cuda.experts.store_plan import StorePlan
from dwdp_lab.execute.cuda.gpu.device import Device, Stream
from dwdp_lab.execute.cuda.memory.choose_transport import choose_transport
from dwdp_lab.execute.cuda.memory.legacy_ipc import Ipc
from dwdp_lab.execute.hf.loaded import expert_files, model_of
from dwdp_lab.execute.hf.order import HfOrder
from dwdp_lab.execute.messages import Progress
from dwdp_lab.execute.rank_session import RankSession
from dwdp_lab.program.operation import Lane


@dataclass
class GpuRank:
    """A rank's GPU, with the streams that live as long as its process."""

    device: Device
    ipc: Ipc | None = None
    streams: dict[Lane, Stream] = field(init=False)

    def __post_init__(self) -> None:
        self.streams = {"compute": self.device.stream("compute"), "copy": self.device.stream("copy")}


@dataclass
class GpuLoaded:
    """`whole` are all experts, of ranks that keep all; `shard` is None then."""

    key: tuple[Any, ...]
    model: Any
    modules: dict[int, nn.Module]
    whole: AllExperts = field(default_factory=dict)
    shard: ExpertStore | None = None
    peers: Peers = field(default_factory=dict)
    mapped: ExitStack = field(default_factory=ExitStack)


_LOADED: WeakKeyDictionary[RankSession, GpuLoaded] = WeakKeyDictionary()


@torch.inference_mode(False)  # parameters made in it could never be moved
def gpu_load(session: RankSession, rank: GpuRank, order: HfOrder) -> GpuLoaded:
    """The order's model on the rank's GPU, and the experts of every layer that are the rank's, unless they are here.

    All ranks call this together. Raises ScenarioError (field `model`) for a checkpoint or model that cannot be run,
    DriverError and NoTransport.
    """
    device, scenario = rank.device, order.scenario
    shape, local = scenario.model, order.local(session.rank)
    key = (order.folder, order.version, shape, scenario.ranks, order.replicated, local)
    before = _LOADED.get(session)
    if before is not None and before.key == key:
        return before
    if before is not None:
        drop(session, before)
        del before  # with its model: there may be no room for two
    session.channel.send(Progress("loading", 0, 1))
    found = model_of(order)
    made = GpuLoaded(key, found.model.to(device.torch_device), found.modules)
    with expert_files(order, found) as read:
        if order.replicated:
            made.whole = all_experts(shape, shape.layers_with_experts, None, read, device.torch_device)
        else:
            transport = choose_transport(session, device.memory, rank.ipc, device.torch_device)
            made.shard = ExpertStore(StorePlan(shape, local, transport.page), transport, device)
            made.shard.fill(read)
            made.peers, made.mapped = map_peers(session, scenario, made.shard)
    device.synchronize()
    _LOADED[session] = made
    return made


def drop(session: RankSession, loaded: GpuLoaded) -> None:
    """All ranks: nobody's memory goes before everybody has let go of it, as CUDA IPC demands."""
    _LOADED.pop(session, None)
    loaded.peers, loaded.whole = {}, {}
    loaded.mapped.close()
    if loaded.shard is not None:
        session.gather("let go of peers", None)
        loaded.shard.close()
