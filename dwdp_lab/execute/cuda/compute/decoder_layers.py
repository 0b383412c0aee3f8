"""A decoder layer's parts as the CUDA machine computes them: those of model/layers.py, with the kernels there are.

Every strategy computes with these, so what they give is the same bit for bit wherever experts lie. None waits for the
device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from dwdp_kernels.grouped_mlp import swiglu_mlp
from torch import Tensor
from torch.nn import functional

from dwdp_lab.execute.cuda.compute.arithmetic import Arithmetic
from dwdp_lab.model.attention import rope_tables
from dwdp_lab.model.layers import KV, Routing, mixed
from dwdp_lab.model.supported import grouped_query
from dwdp_lab.model.weights import LayerWeights
from dwdp_lab.scenario.batches import Batch
from dwdp_lab.scenario.model_shape import ModelShape


class Tokens(NamedTuple):
    """What attention has to know of a batch in one layer; made before a run."""

    batch: Batch
    cos: Tensor
    """[T, head_dim / 2] fp32 of the rotary angles"""
    sin: Tensor
    kv_cache: Sequence[KV | None]
    """Per chunk the keys and values of its context."""


def angles(shape: ModelShape, batch: Batch, where: torch.device) -> tuple[Tensor, Tensor]:
    """cos and sin of a batch's rotary angles, [T, head_dim / 2] fp32 each."""
    cos, sin = rope_tables(batch, grouped_query(shape).head_dim, shape.rope_theta, where)
    return cos[:, 0].contiguous(), sin[:, 0].contiguous()


def attended(
    arithmetic: Arithmetic,
    shape: ModelShape,
    weights: LayerWeights,
    normed: Tensor,
    tokens: Tokens,
    layer: int,
    kv_of_head: Tensor | None,
) -> Tensor:
    """[T, H]: what attention adds to the hidden states, whose norm with `input_norm` it is given. `kv_of_head`: which
    keys' head each query head looks at, where not as many to each."""
    if not len(normed):
        return torch.zeros_like(normed)
    heads = grouped_query(shape)
    qkv = functional.linear(normed, weights.qkv).view(len(normed), -1, heads.head_dim)
    first_value = heads.heads + heads.kv_heads
    arithmetic.rotate(qkv[:, :first_value], tokens.cos, tokens.sin)
    parts = qkv[:, : heads.heads], qkv[:, heads.heads : first_value], qkv[:, first_value:]
    return mixed(shape, weights, parts, tokens.batch, tokens.kv_cache, layer, kv_of_head)


def route(arithmetic: Arithmetic, shape: ModelShape, weights: LayerWeights, normed: Tensor) -> Routing:
    """Choose k experts for each row of hidden states, whose norm [T, H] with `post_norm` is given, and weigh them, as
    model/layers.py says; ids are int32."""
    if weights.router is None:
        raise ValueError("a dense layer has no router")
    logits = arithmetic.logits(normed, weights.router)
    chosen = arithmetic.choose(logits, weights.router_bias, shape.top_k, shape.normalise_top_k, normed.dtype)
    return Routing(normed, *chosen)


def dense_output(weights: LayerWeights, normed: Tensor) -> Tensor:
    """[T, H]: what a dense layer's MLP adds to hidden states, whose norm with `post_norm` it is given."""
    if weights.dense_w13 is None or weights.dense_w2 is None:
        raise ValueError("an MoE layer has no dense MLP")
    return swiglu_mlp(normed, weights.dense_w13, weights.dense_w2)
