"""The layers of a decoder as pure functions.

T is a batch's new tokens, H the hidden width, k the experts a token visits. A decoder layer is `attention`,
then either `dense_mlp`, or `route`, `experts`, `shared_experts` and `add_experts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from dwdp_kernels.grouped_mlp import Weight, grouped_mlp, swiglu_mlp
from torch import Tensor
from torch.nn import functional

from dwdp_lab.model.attention import alike_attention, causal_attention, rope_tables, rotate, sees_all
from dwdp_lab.model.supported import grouped_query
from dwdp_lab.model.weights import LayerWeights
from dwdp_lab.scenario.batches import Batch, Chunk
from dwdp_lab.scenario.model_shape import ModelShape

KV = tuple[Tensor, Tensor]


class Routing(NamedTuple):
    """Where the tokens of one layer go."""

    normed: Tensor
    """[T, H]: the experts' input"""
    ids: Tensor
    """[T, k] int64: the chosen experts, best first"""
    weights: Tensor
    """[T, k]: how much each counts, in the type of `normed`"""


def rms_norm(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """x / rms(x) * weight over the last dimension, in fp32, rounded once to x's type."""
    wide = x.float()
    scaled = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return (scaled if weight is None else scaled * weight.float()).to(x.dtype)


def final_norm(x: Tensor, eps: float) -> Tensor:
    """The decoder's output [T, H] from its last layer's: RMSNorm with unit weight."""
    return rms_norm(x, None, eps)


def project(shape: ModelShape, weights: LayerWeights, x: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Queries [T, heads, head_dim], keys and values [T, kv_heads, head_dim] of x [T, H].

    Positions are applied to queries and keys; keys and values are what a pass leaves in the KV cache.
    """
    heads = grouped_query(shape)
    qkv = functional.linear(rms_norm(x, weights.input_norm, shape.rms_eps), weights.qkv)
    qkv = qkv.view(len(x), -1, heads.head_dim)
    first_value = heads.heads + heads.kv_heads
    q, k, v = qkv[:, : heads.heads], qkv[:, heads.heads : first_value], qkv[:, first_value:]
    cos, sin = rope_tables(batch, heads.head_dim, shape.rope_theta, x.device)
    return rotate(q, cos, sin), rotate(k, cos, sin), v


def attention(
    shape: ModelShape,
    weights: LayerWeights,
    x: Tensor,
    batch: Batch,
    kv_cache: Sequence[KV | None],
    layer: int,
) -> Tensor:
    """[T, H]: x plus the attention of each chunk over its cached context and its new tokens.

    `kv_cache` has an entry for each chunk: keys and values [context, kv_heads, head_dim], or None without
    context. The window, where the shape has one, limits layers 0, 2, 4, ... Raises ValueError when x, the
    batch and the cache do not fit together.
    """
    return x + attended(shape, weights, x, batch, kv_cache, layer)


def attended(
    shape: ModelShape,
    weights: LayerWeights,
    x: Tensor,
    batch: Batch,
    kv_cache: Sequence[KV | None],
    layer: int,
    kv_of_head: Sequence[int] | None = None,
) -> Tensor:
    """[T, H]: what `attention` adds to x.

    `kv_of_head` says which of the keys' heads each query head looks at (None: as many query heads to each).
    """
    if len(x) != sum(chunk.new_tokens for chunk in batch) or len(kv_cache) != len(batch):
        raise ValueError(
            f"{len(x)} rows and {len(kv_cache)} cache entries do not fit a batch of {len(batch)} chunks with "
            f"{sum(chunk.new_tokens for chunk in batch)} new tokens"
        )
    if not len(x):
        return torch.zeros_like(x)
    return mixed(shape, weights, project(shape, weights, x, batch), batch, kv_cache, layer, kv_of_head)


def mixed(
    shape: ModelShape,
    weights: LayerWeights,
    projected: tuple[Tensor, Tensor, Tensor],
    batch: Batch,
    kv_cache: Sequence[KV | None],
    layer: int,
    kv_of_head: Sequence[int] | Tensor | None = None,
) -> Tensor:
    """[T, H]: what `attended` gives, from its queries, keys and values."""
    q, k, v = projected
    window = shape.attention.window if layer % 2 == 0 else None
    parts, start = [], 0
    for (new, context), run in groupby(zip(batch, kv_cache, strict=True), _sizes):
        alike = list(run)
        at_once = len(alike) if not context and sees_all(new, window) else 1
        for _, cached in alike[::at_once]:
            span = slice(start, start + at_once * new)
            keys = torch.cat((cached[0], k[span])) if cached else k[span]
            values = torch.cat((cached[1], v[span])) if cached else v[span]
            if kv_of_head is not None:
                keys, values = keys[:, kv_of_head], values[:, kv_of_head]
            if at_once > 1:
                parts.append(alike_attention(q[span], keys, values, at_once))
            else:
                parts.append(causal_attention(q[span], keys, values, window))
            start = span.stop
    whole = torch.cat(parts) if len(parts) > 1 else parts[0]
    return functional.linear(whole.reshape(len(q), -1), weights.output)


def _sizes(one: tuple[Chunk, KV | None]) -> tuple[int, int]:
    """New and context tokens of a chunk. Raises ValueError for a cache of another size."""
    chunk, cached = one
    found = len(cached[0]) if cached else 0
    if found != chunk.context_tokens:
        raise ValueError(f"request {chunk.request} has {chunk.context_tokens} context tokens, its cache {found}")
    return chunk.new_tokens, chunk.context_tokens


def route(shape: ModelShape, weights: LayerWeights, x: Tensor) -> Routing:
    """Choose k experts for each row of x [T, H] and weigh them.

    Logits are fp32. The largest k of logit + bias are chosen, of equal ones the lower expert. The weights are
    the softmax of the logits without the bias (DeepSeek-V3 uses its own bias so, arXiv 2412.19437, section
    2.1.2), scaled to sum to 1 when `shape.normalise_top_k`.
    """
    if weights.router is None:
        raise ValueError("a dense layer has no router")
    normed = rms_norm(x, weights.post_norm, shape.rms_eps)
    logits = functional.linear(normed.float(), weights.router.float())
    ids = top_experts(logits + weights.router_bias, shape.top_k)
    chosen = logits.softmax(-1).gather(1, ids)
    if shape.normalise_top_k:
        chosen = chosen / chosen.sum(-1, keepdim=True)
    return Routing(normed, ids, chosen.to(x.dtype))


def top_experts(scores: Tensor, top_k: int) -> Tensor:
    """[T, k] int64: the experts with the k largest fp32 scores [T, E], best first, of equal ones the lower.

    torch.topk leaves ties open, and a stable sort of all E is four times as slow. So the score's bits, made
    to order like integers, and the expert's number become one int64 key, of which no two in a row are equal.
    """
    bits = (scores + 0.0).view(torch.int32).long()  # + 0.0 turns -0.0, which equals 0.0, into it
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    last = scores.shape[1] - 1
    keys = (ordered << 32) | (last - torch.arange(scores.shape[1], device=scores.device))
    return last - (keys.topk(top_k, dim=1).values & 0xFFFFFFFF)


def experts(shape: ModelShape, routing: Routing, w13: Sequence[Weight], w2: Sequence[Weight]) -> Tensor:
    """[T, H]: each token's weighted sum over its k experts, no residual; one w13 and w2 per routed expert."""
    if not len(w13) == len(w2) == shape.experts:
        raise ValueError(f"{len(w13)} w13 and {len(w2)} w2 given for {shape.experts} experts")
    return grouped_mlp(routing.normed, routing.ids, routing.weights, w13, w2)


def shared_experts(shape: ModelShape, weights: LayerWeights, normed: Tensor) -> Tensor | None:
    """[T, H]: the sum of the shared experts for every token, None for a shape without any."""
    if not shape.shared_experts:
        return None
    if weights.shared_w13 is None or weights.shared_w2 is None:
        raise ValueError("a dense layer has no shared experts")
    return swiglu_mlp(normed, weights.shared_w13, weights.shared_w2)


def add_experts(x: Tensor, routed: Tensor, shared: Tensor | None) -> Tensor:
    """An MoE layer's output: the residual x plus the experts, in the one order all strategies share."""
    return x + (routed if shared is None else routed + shared)


def dense_mlp(shape: ModelShape, weights: LayerWeights, x: Tensor) -> Tensor:
    """[T, H]: x plus the SwiGLU MLP of a dense layer."""
    return x + dense_output(shape, weights, x)


def dense_output(shape: ModelShape, weights: LayerWeights, x: Tensor) -> Tensor:
    """[T, H]: what `dense_mlp` adds to x."""
    if weights.dense_w13 is None or weights.dense_w2 is None:
        raise ValueError("an MoE layer has no dense MLP")
    return swiglu_mlp(rms_norm(x, weights.post_norm, shape.rms_eps), weights.dense_w13, weights.dense_w2)
