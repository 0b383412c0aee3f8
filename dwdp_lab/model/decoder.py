"""A whole decoder pass in one process: the layers in order, nothing split, nothing moved."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dwdp_lab.model.inputs import cached_kv, hidden_inputs
from dwdp_lab.model.layers import (
    add_experts,
    attention,
    dense_mlp,
    experts,
    final_norm,
    route,
    shared_experts,
)
from dwdp_lab.model.supported import check_runs_on_ranks
from dwdp_lab.model.weights import expert_weights, layer_weights
from dwdp_lab.scenario.batches import Batch
from dwdp_lab.scenario.model_shape import ModelShape


@dataclass(frozen=True)
class DecoderResult:
    """The output [T, H] after the final norm, and the experts [T, k] each MoE layer chose."""

    output: Tensor
    routing: tuple[Tensor, ...]


@torch.inference_mode()
def run_decoder(
    shape: ModelShape, batch: Batch, seed: int, router_skew: float = 0.0, device: torch.device | str = "cpu"
) -> DecoderResult:
    """One pass over a batch with seeded weights, inputs and cache; weights are made layer by layer.

    Raises ScenarioError for a shape that ranks cannot run.
    """
    check_runs_on_ranks(shape)
    x = hidden_inputs(shape, batch, seed, device)
    chosen = []
    for layer in range(shape.layers):
        weights = layer_weights(shape, layer, seed, router_skew, device)
        cache = [cached_kv(shape, layer, c, seed, device) if c.context_tokens else None for c in batch]
        x = attention(shape, weights, x, batch, cache, layer)
        if not shape.has_experts(layer):
            x = dense_mlp(shape, weights, x)
            continue
        routing = route(shape, weights, x)
        chosen.append(routing.ids)
        w13, w2 = zip(*(expert_weights(shape, layer, e, seed, device) for e in range(shape.experts)), strict=True)
        routed = experts(shape, routing, w13, w2)
        x = add_experts(x, routed, shared_experts(shape, weights, routing.normed))
    return DecoderResult(final_norm(x, shape.rms_eps), tuple(chosen))
