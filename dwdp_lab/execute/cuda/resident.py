"""Experts that need no slot: all of them on one rank (`replicated`), or the ones a rank computes itself (DEP)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from dwdp_kernels.expert_table import expert_table
from torch import Tensor

from dwdp_lab.execute.cuda.expert_store import ExpertStore
from dwdp_lab.execute.cuda.staging import LayerTables
from dwdp_lab.model.narrow import narrow_expert
from dwdp_lab.model.supported import torch_dtype
from dwdp_lab.model.weights import ReadExpert, expert_parameters
from dwdp_lab.scenario.model_shape import ModelShape
from dwdp_lab.scenario.shares import Share, narrowed

AllExperts = dict[int, dict[str, Tensor]]
"""By decoder layer and parameter: [E, rows, columns]."""


def all_experts(
    shape: ModelShape, layers: Iterable[int], share: Share | None, read: ReadExpert, device: torch.device
) -> AllExperts:
    """Every expert of these layers, or the share of it, in torch's own memory."""
    dtype = torch_dtype(shape.expert_dtype)
    kept = shape if share is None else narrowed(shape, share)
    made: AllExperts = {}
    for layer in layers:
        made[layer] = {
            name: torch.empty(shape.experts, *size, dtype=dtype, device=device)
            for name, size in expert_parameters(kept)
        }
        for expert in range(shape.experts):
            weights = read(layer, expert)
            if share is not None:
                weights = narrow_expert(*weights, share.columns)
            for tensor, weight in zip(made[layer].values(), weights, strict=True):
                tensor[expert].copy_(weight)
    return made


def tables_of_all(experts: AllExperts) -> dict[int, LayerTables]:
    """By decoder layer."""
    return {layer: LayerTables(*map(expert_table, tensors.values())) for layer, tensors in experts.items()}


def local_tensors(store: ExpertStore, layer: int, experts: range) -> dict[str, Tensor]:
    """[len(experts), rows, columns] by parameter, of experts that the store has."""
    first = experts.start - store.plan.experts.start
    return {name: store.parameter(layer, name)[first : first + len(experts)] for name in store.sizes}


def tables_of_store(store: ExpertStore, experts: range) -> dict[int, LayerTables]:
    """By decoder layer, of experts that the store has; entry 0 of a table is the first of them."""
    shape = store.plan.shape
    return {
        layer: LayerTables(*map(expert_table, local_tensors(store, layer, experts).values()))
        for layer in shape.layers_with_experts
    }
