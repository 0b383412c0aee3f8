"""Seeded weights: every rank makes the same layer and the same expert on its own, without a checkpoint.

All matrices are stored as (out, in). Their elements have deviation 1/sqrt(in), as in a trained model, so that
activations neither grow nor fade with depth.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

from dwdp_lab.model.draws import stream, uniform
from dwdp_lab.model.supported import grouped_query
from dwdp_lab.model.supported import torch_dtype as torch_dtype
from dwdp_lab.scenario.model_shape import ModelShape
from dwdp_lab.scenario.router import visit_probability


@dataclass(frozen=True)
class LayerWeights:
    """The replicated weights of one layer, in `shape.dtype` (shared experts in `shape.expert_dtype`).

    A dense layer has `dense_w13` and `dense_w2`, no router and no shared experts; an MoE layer the reverse.
    The first half of every w13 is the gate projection, the second half the up projection.
    """

    input_norm: Tensor
    """[H]"""
    qkv: Tensor
    """[(heads + 2 kv_heads) head_dim, H]: queries, keys, values"""
    output: Tensor
    """[H, heads head_dim]"""
    post_norm: Tensor
    """[H]"""
    router: Tensor | None
    """[E, H]"""
    router_bias: Tensor
    """[E] fp32, added to the logits when experts are chosen, not when weighted; zeros without skew"""
    shared_w13: Tensor | None
    """[2 S I, H]: all S shared experts side by side"""
    shared_w2: Tensor | None
    """[H, S I]"""
    dense_w13: Tensor | None
    """[2 dense_intermediate, H]"""
    dense_w2: Tensor | None
    """[H, dense_intermediate]"""


def layer_weights(
    shape: ModelShape, layer: int, seed: int, router_skew: float, device: torch.device | str = "cpu"
) -> LayerWeights:
    """The replicated weights of one decoder layer, decided by (seed, layer) and, for the bias, by the skew.

    Raises ScenarioError for a shape that ranks cannot run.
    """
    heads = grouped_query(shape)
    dtype = torch_dtype(shape.dtype, "model.dtype")
    hidden, moe = shape.hidden, shape.has_experts(layer)
    shared = shape.shared_experts * shape.expert_intermediate if moe else 0
    dense = 0 if moe else shape.dense_intermediate

    def matrix(name: str, rows: int, columns: int, kind: torch.dtype = dtype) -> Tensor:
        source = stream("layer", seed, layer, name)
        return uniform((rows, columns), source, 1.0 / math.sqrt(columns), kind, device)

    def norm(name: str) -> Tensor:
        return (1.0 + uniform((hidden,), stream("layer", seed, layer, name), 0.1, device=device)).to(dtype)

    expert_dtype = torch_dtype(shape.expert_dtype)
    return LayerWeights(
        input_norm=norm("input_norm"),
        qkv=matrix("qkv", (heads.heads + 2 * heads.kv_heads) * heads.head_dim, hidden),
        output=matrix("output", hidden, heads.heads * heads.head_dim),
        post_norm=norm("post_norm"),
        router=matrix("router", shape.experts, hidden) if moe else None,
        router_bias=torch.tensor(router_bias(shape, layer, seed, router_skew), device=device),
        shared_w13=matrix("shared_w13", 2 * shared, hidden, expert_dtype) if shared else None,
        shared_w2=matrix("shared_w2", hidden, shared, expert_dtype) if shared else None,
        dense_w13=matrix("dense_w13", 2 * dense, hidden) if dense else None,
        dense_w2=matrix("dense_w2", hidden, dense) if dense else None,
    )


def router_bias(shape: ModelShape, layer: int, seed: int, router_skew: float) -> list[float]:
    """Biases that make tokens visit the experts as often as `visit_probability` says; zeros without skew.

    Logits here are close to normal with mean 0 and deviation 1, and a token visits the experts whose logit
    plus bias exceeds a threshold. With the threshold at 0 that happens with probability
    P(logit > -bias) = Phi(bias), so the bias is the normal quantile of the wanted probability; these sum to
    k, as many as a token visits. On normal logits 1 % of the visits go elsewhere than wanted; biases of log
    popularity, which suit Gumbel logits, misplace 5 to 19 %.
    """
    if not router_skew:
        return [0.0] * shape.experts
    visits = visit_probability(shape.experts, shape.top_k, router_skew, seed, layer)
    # beyond 5 deviations never and always are as good as reached
    return [NormalDist().inv_cdf(min(max(visit, 3e-7), 1 - 3e-7)) for visit in visits]


def expert_weights(
    shape: ModelShape, layer: int, expert: int, seed: int, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """w13 [2I, H] and w2 [H, I] of one routed expert, decided by (seed, layer, expert) alone."""
    dtype = torch_dtype(shape.expert_dtype)
    w13, w2 = (
        uniform(size, stream("expert", seed, layer, expert, name), 1.0 / math.sqrt(size[1]), dtype, device)
        for name, size in expert_parameters(shape)
    )
    return w13, w2


ReadExpert = Callable[[int, int], tuple[Tensor, Tensor]]
"""(decoder layer, expert) to its w13 [2I, H] and w2 [H, I]."""


def drawn(shape: ModelShape, seed: int, device: torch.device | str = "cpu") -> ReadExpert:
    """The seeded experts that every rank can make."""
    return lambda layer, expert: expert_weights(shape, layer, expert, seed, device)


def expert_parameters(shape: ModelShape) -> tuple[tuple[str, tuple[int, int]], ...]:
    """Names and (out, in) sizes of one expert's parameters in memory order."""
    hidden, inner = shape.hidden, shape.expert_intermediate
    return ("w13", (2 * inner, hidden)), ("w2", (hidden, inner))
