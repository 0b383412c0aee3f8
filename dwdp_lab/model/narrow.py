"""A rank's share of weights and caches, where layers are cut across their width (scenario/shares.py).

The layers' functions run on narrow weights as they are, with the narrowed shape. What they then give is a part of a sum
over ranks: queries, keys and values lose whole heads, gate and up projections whole columns of the intermediate width,
and the projections back to H the columns that these would have met.
"""

from __future__ import annotations

from dataclasses import replace

from dwdp_kernels.e4m3 import Quantised
from dwdp_kernels.grouped_mlp import Weight
from torch import Tensor

from dwdp_lab.model.layers import KV
from dwdp_lab.model.supported import grouped_query
from dwdp_lab.model.weights import LayerWeights
from dwdp_lab.scenario.model_shape import ModelShape
from dwdp_lab.scenario.shares import Share


def narrow_layer(shape: ModelShape, weights: LayerWeights, share: Share) -> LayerWeights:
    """The share of one layer's replicated weights; norms and router stay whole. `shape` is the whole model's."""
    attention = grouped_query(shape)
    heads, kv_heads, size = attention.heads, attention.kv_heads, attention.head_dim
    per_head = weights.qkv.view(heads + 2 * kv_heads, size, shape.hidden)
    kept = [*share.heads, *(heads + n for n in share.kv_heads), *(heads + kv_heads + n for n in share.kv_heads)]
    output = weights.output[:, share.heads.start * size : share.heads.stop * size]
    shared_w13, shared_w2 = weights.shared_w13, weights.shared_w2
    if shared_w13 is not None and shared_w2 is not None:
        shared_w13 = _rows(shared_w13, 2 * shape.shared_experts, share.columns)
        shared_w2 = _columns(shared_w2, shape.shared_experts, share.columns)
    dense_w13, dense_w2 = weights.dense_w13, weights.dense_w2
    if dense_w13 is not None and dense_w2 is not None:
        dense_w13, dense_w2 = _rows(dense_w13, 2, share.dense_columns), _columns(dense_w2, 1, share.dense_columns)
    return replace(
        weights,
        qkv=per_head[kept].flatten(0, 1),
        output=output.contiguous(),
        shared_w13=shared_w13,
        shared_w2=shared_w2,
        dense_w13=dense_w13,
        dense_w2=dense_w2,
    )


def narrow_expert(w13: Weight, w2: Weight, columns: range) -> tuple[Weight, Weight]:
    """The columns' part of one routed expert: w13 [2 C, H] and w2 [H, C].

    Scales follow their rows: of w13 they are cut too, and of w2 every share has all, so that its part of a sum needs no
    scale of another's.
    """
    if isinstance(w13, Quantised):
        scales = _rows(w13.scales[:, None], 2, columns)[:, 0]
        w13 = Quantised(_rows(w13.values, 2, columns), scales)
    else:
        w13 = _rows(w13, 2, columns)
    w2 = w2._replace(values=_columns(w2.values, 1, columns)) if isinstance(w2, Quantised) else _columns(w2, 1, columns)
    return w13, w2


def narrow_cache(cached: KV, share: Share) -> KV:
    """The share's heads of keys and values [context, kv_heads, head_dim]."""
    kept = slice(share.kv_heads.start, share.kv_heads.stop)
    return cached[0][:, kept].contiguous(), cached[1][:, kept].contiguous()


def kv_of_head(shape: ModelShape, share: Share) -> list[int] | None:
    """Which of the share's key heads each of its query heads looks at; None when as many look at each, in order."""
    attention = grouped_query(shape)
    group = attention.heads // attention.kv_heads
    found = [head // group - share.kv_heads.start for head in share.heads]
    alike, rest = divmod(len(share.heads), max(1, len(share.kv_heads)))
    return None if not rest and found == [place // alike for place in range(len(found))] else found


def _rows(weight: Tensor, blocks: int, columns: range) -> Tensor:
    """Of each of the blocks that stand above one another in [blocks W, in] the rows `columns`."""
    parts = weight.view(blocks, len(weight) // blocks, weight.shape[1])
    return parts[:, columns.start : columns.stop].flatten(0, 1)


def _columns(weight: Tensor, blocks: int, columns: range) -> Tensor:
    """Of each of the blocks that stand side by side in [out, blocks W] the columns `columns`."""
    parts = weight.view(len(weight), blocks, weight.shape[1] // blocks)
    return parts[:, :, columns.start : columns.stop].flatten(1).contiguous()
