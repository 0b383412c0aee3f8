"""Experts that need no slot: all of them on one rank (`replicated`), or the ones a rank computes itself (DEP)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from dwdp_lab.execute.cuda.experts.expert_store import ExpertStore
from dwdp_lab.execute.cuda.experts.staging import LayerTables, tables_of
from dwdp_lab.model.kept_experts import as_stored, kept_weights, stored_form
from dwdp_lab.model.narrow import narrow_expert
from dwdp_lab.model.weights import ReadExpert
from dwdp_lab.scenario.model_shape import ModelShape
from dwdp_lab.scenario.shares import Share, narrowed

AllExperts = dict[int, dict[str, Tensor]]
"""By decoder layer and parameter: [E, rows, columns], or [E, bytes] with scales."""


def all_experts(
    shape: ModelShape, layers: Iterable[int], share: Share | None, read: ReadExpert, device: torch.device
) -> AllExperts:
    """Every expert of these layers, or the share of it, in torch's own memory."""
    kept = shape if share is None else narrowed(shape, share)
    made: AllExperts = {}
    for layer in layers:
        made[layer] = {}
        for name, _ in shape.expert_matrices:
            size, dtype = stored_form(kept, name)
            made[layer][name] = torch.empty(shape.experts, *size, dtype=dtype, device=device)
        for expert in range(shape.experts):
            weights = kept_weights(shape, read(layer, expert))
            if share is not None:
                weights = narrow_expert(*weights, share.columns)
            for tensor, weight in zip(made[layer].values(), weights, strict=True):
                tensor[expert].copy_(as_stored(weight))
    return made


def tables_of_all(shape: ModelShape, experts: AllExperts) -> dict[int, LayerTables]:
    """By decoder layer. `shape` is as wide as what is kept."""
    return {layer: tables_of(shape, tensors) for layer, tensors in experts.items()}


def local_tensors(store: ExpertStore, layer: int, experts: range) -> dict[str, Tensor]:
    """[len(experts), ...] by parameter, in the form of the store, of experts that the store has."""
    first = experts.start - store.plan.experts.start
    return {name: store.parameter(layer, name)[first : first + len(experts)] for name in store.forms}


def tables_of_store(store: ExpertStore, experts: range) -> dict[int, LayerTables]:
    """By decoder layer, of experts that the store has; entry 0 of a table is the first of them."""
    shape = store.plan.shape
    return {layer: tables_of(shape, local_tensors(store, layer, experts)) for layer in shape.layers_with_experts}
