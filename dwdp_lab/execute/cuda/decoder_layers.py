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

from dwdp_lab.execute.cuda.arithmetic import Arithmetic
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
    x: Tensor,
    tokens: Tokens,
    layer: int,
    kv_of_head: Tensor | None,
) -> Tensor:
    """[T, H]: what attention adds to x. `kv_of_head`: which keys' head each query head looks at, where not as many to
    each."""
    if not len(x):
        return torch.zeros_like(x)
    heads = grouped_query(shape)
    qkv = functional.linear(arithmetic.norm(x, weights.input_norm, shape.rms_eps), weights.qkv)
    qkv = qkv.view(len(x), -1, heads.head_dim)
    first_value = heads.heads + heads.kv_heads
    arithmetic.rotate(qkv[:, :first_value], tokens.cos, tokens.sin)
    parts = qkv[:, : heads.heads], qkv[:, heads.heads : first_value], qkv[:, first_value:]
    return mixed(shape, weights, parts, tokens.batch, tokens.kv_cache, layer, kv_of_head)


def route(arithmetic: Arithmetic, shape: ModelShape, weights: LayerWeights, x: Tensor) -> Routing:
    """Choose k experts for each row of x [T, H] and weigh them, as model/layers.py says; ids are int32."""
    if weights.router is None:
        raise ValueError("a dense layer has no router")
    normed = arithmetic.norm(x, weights.post_norm, shape.rms_eps)
    logits = arithmetic.logits(normed, weights.router)
    return Routing(normed, *arithmetic.choose(logits, weights.router_bias, shape.top_k, shape.normalise_top_k, x.dtype))


def dense_output(arithmetic: Arithmetic, shape: ModelShape, weights: LayerWeights, x: Tensor) -> Tensor:
    """[T, H]: what a dense layer's MLP adds to x."""
    if weights.dense_w13 is None or weights.dense_w2 is None:
        raise ValueError("an MoE layer has no dense MLP")
    return swiglu_mlp(arithmetic.norm(x, weights.post_norm, shape.rms_eps), weights.dense_w13, weights.dense_w2)
