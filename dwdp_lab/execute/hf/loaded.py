"""What a rank has loaded of a checkpoint, kept for its next run: the model, and the experts that are the rank's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import nn

from dwdp_lab.execute.cpu.expert_store import ExpertStore, map_shards
from dwdp_lab.execute.cpu.shared_memory import Mapping as Memory
from dwdp_lab.execute.hf.order import HfOrder
from dwdp_lab.execute.messages import Progress
from dwdp_lab.execute.rank_session import RankSession
from dwdp_lab.model.hf.checkpoint import ExpertFiles
from dwdp_lab.model.hf.experts_module import experts_modules, layer_of, stack_of
from dwdp_lab.model.hf.skeleton import skeleton
from dwdp_lab.model.supported import torch_dtype
from dwdp_lab.model.weights import ReadExpert, expert_parameters
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.model_shape import ModelShape


@dataclass
class Loaded:
    """`key` tells what was loaded; `modules` are the experts modules by decoder layer; `peers` are all ranks' shards,
    none where each rank keeps all experts."""

    key: tuple[Any, ...]
    model: Any
    modules: dict[int, nn.Module]
    store: ExpertStore
    peers: list[Memory]

    def close(self) -> None:
        """Give the memory back. A peer that still maps this rank's shard keeps it alive for itself."""
        for peer in self.peers:
            peer.close()
        self.store.close()


_LOADED: WeakKeyDictionary[RankSession, Loaded] = WeakKeyDictionary()


@torch.inference_mode(False)  # parameters made in it could never be moved
def load(session: RankSession, order: HfOrder) -> Loaded:
    """The model in the order's folder, and the experts of every layer that are the rank's, read unless they are here.

    All ranks call this together. Raises ScenarioError (field `model`) for a checkpoint or model that cannot be run.
    """
    shape, local = order.scenario.model, order.local(session.rank)
    key = (order.folder, order.version, shape, order.scenario.ranks, local)
    before = _LOADED.get(session)
    if before is not None and before.key == key:
        return before
    if before is not None:
        del _LOADED[session]
        before.close()
        del before  # with its model: there may be no room for two
    session.channel.send(Progress("loading", 0, 1))
    made = model_of(order)
    with expert_files(order, made) as read:
        store = ExpertStore(shape, local, read)
    peers = map_shards(session, store) if len(local) < shape.experts else []
    _LOADED[session] = Loaded(key, made.model, made.modules, store, peers)
    return _LOADED[session]


class HfModel(NamedTuple):
    """A model without its experts' weights, its experts modules by decoder layer, and what their names begin with."""

    model: Any
    modules: dict[int, nn.Module]
    stack: str


def model_of(order: HfOrder) -> HfModel:
    """The order's model, on the CPU. Raises ScenarioError (field `model`) for one that its scenario does not tell."""
    shape = order.scenario.model
    model = skeleton(Path(order.folder), torch_dtype(shape.dtype, "model.dtype"))
    named = experts_modules(model)
    modules = {layer_of(name): module for name, module in named.items()}
    stacks = {stack_of(name) or "" for name in named}
    if len(modules) < len(named) or len(stacks) > 1:
        raise ScenarioError(
            "model", shape.name, f"needs one module of experts for each layer, and has {', '.join(named)}"
        )
    _check_layers(modules, shape)
    return HfModel(model, modules, stacks.pop())


@contextmanager
def expert_files(order: HfOrder, made: HfModel) -> Iterator[ReadExpert]:
    """Reads the order's experts, one at a time, within this context."""
    size = dict(expert_parameters(order.scenario.model))["w13"]
    transposed = any(bool(module.is_transposed) for module in made.modules.values())
    with ExpertFiles(Path(order.folder), transposed, made.stack) as files:
        yield lambda layer, expert: files.expert(layer, expert, size)


def _check_layers(modules: Mapping[int, nn.Module], shape: ModelShape) -> None:
    wanted = list(shape.layers_with_experts)
    found: dict[int, Any] = {layer: module.num_experts for layer, module in modules.items()}
    if sorted(found) != wanted or any(experts != shape.experts for experts in found.values()):
        raise ScenarioError(
            "model",
            shape.name,
            f"has {shape.experts} experts in layers {wanted} by its config, and by transformers' "
            f"code {sorted(set(found.values()))} in layers {sorted(found)}",
        )
    ungated = next((type(module).__name__ for module in modules.values() if not module.has_gate), None)
    if ungated is not None:
        raise ScenarioError("model", ungated, "has experts of two matrices, and pull plans count three for each")
