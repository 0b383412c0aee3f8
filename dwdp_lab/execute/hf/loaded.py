"""What a rank has loaded of a checkpoint, kept for its next run: the model, and the experts that are the rank's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from dwdp_lab.execute.cpu.expert_store import ExpertStore, map_shards
from dwdp_lab.execute.cpu.shared_memory import Mapping
from dwdp_lab.execute.messages import Progress
from dwdp_lab.execute.rank_session import RankSession
from dwdp_lab.model.hf.checkpoint import ExpertFiles
from dwdp_lab.model.hf.experts_module import experts_modules, layer_of
from dwdp_lab.model.hf.skeleton import skeleton
from dwdp_lab.model.supported import torch_dtype
from dwdp_lab.model.weights import expert_parameters
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario


@dataclass
class Loaded:
    """`key` tells what was loaded; `modules` are the experts modules by decoder layer; `peers` are all ranks' shards,
    none where each rank keeps all experts."""

    key: tuple[Any, ...]
    model: Any
    modules: dict[int, nn.Module]
    store: ExpertStore
    peers: list[Mapping]

    def close(self) -> None:
        """Give the memory back. A peer that still maps this rank's shard keeps it alive for itself."""
        for peer in self.peers:
            peer.close()
        self.store.close()


_LOADED: WeakKeyDictionary[RankSession, Loaded] = WeakKeyDictionary()


def load(session: RankSession, folder: Path, version: object, scenario: Scenario, local: range) -> Loaded:
    """The model in the folder with the experts `local` of every layer, read unless this `version` of it is here.

    All ranks call this together with the same scenario. Raises ScenarioError (field `model`) for a checkpoint or a
    model that cannot be run.
    """
    key = (folder, version, scenario.model, scenario.ranks, local)
    before = _LOADED.get(session)
    if before is not None and before.key == key:
        return before
    if before is not None:
        del _LOADED[session]
        before.close()
    session.channel.send(Progress("loading", 0, 1))
    shape = scenario.model
    model = skeleton(folder, torch_dtype(shape.dtype, "model.dtype"))
    modules = {layer_of(name): module for name, module in experts_modules(model).items()}
    _check_layers(modules, scenario)
    size = dict(expert_parameters(shape))["w13"]
    transposed = any(bool(module.is_transposed) for module in modules.values())
    with ExpertFiles(folder, transposed) as files:
        store = ExpertStore(shape, local, partial(_read, files, size))
    peers = map_shards(session, store) if len(local) < shape.experts else []
    _LOADED[session] = Loaded(key, model, modules, store, peers)
    return _LOADED[session]


def _read(files: ExpertFiles, size: tuple[int, int], layer: int, expert: int) -> tuple[Tensor, Tensor]:
    return files.expert(layer, expert, size)


def _check_layers(modules: dict[int, nn.Module], scenario: Scenario) -> None:
    shape = scenario.model
    wanted = list(range(shape.dense_layers, shape.layers))
    found: dict[int, Any] = {layer: module.num_experts for layer, module in modules.items()}
    if sorted(found) != wanted or any(experts != shape.experts for experts in found.values()):
        raise ScenarioError(
            "model",
            shape.name,
            f"has {shape.experts} experts in layers {wanted[0]} to {wanted[-1]} by its config, and by transformers' "
            f"code {sorted(set(found.values()))} in layers {sorted(found)}",
        )
    ungated = next((type(module).__name__ for module in modules.values() if not module.has_gate), None)
    if ungated is not None:
        raise ScenarioError("model", ungated, "has experts of two matrices, and pull plans count three for each")
