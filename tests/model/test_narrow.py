"""Layers cut across their width: what the shares give adds up to what the whole layer gives."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from dwdp_lab.model.inputs import cached_kv, hidden_inputs
from dwdp_lab.model.layers import (
    attended,
    attention,
    dense_mlp,
    dense_output,
    experts,
    route,
    shared_experts,
)
from dwdp_lab.model.narrow import kv_of_head, narrow_cache, narrow_expert, narrow_layer
from dwdp_lab.model.weights import expert_weights, layer_weights
from dwdp_lab.scenario.batches import Chunk
from dwdp_lab.scenario.model_shape import GroupedQueryAttention, ModelShape
from dwdp_lab.scenario.shares import narrowed, share_of

BATCH = (Chunk(0, 5, 7), Chunk(1, 0, 9), Chunk(2, 11, 1))
HEADS = ((4, 2), (6, 3), (6, 2), (8, 1), (5, 5))


def _shape(heads: int, kv_heads: int, window: int | None = None) -> ModelShape:
    return ModelShape(
        layers=2,
        hidden=32,
        attention=GroupedQueryAttention(heads=heads, kv_heads=kv_heads, head_dim=8, window=window),
        experts=6,
        top_k=3,
        expert_intermediate=20,
        shared_experts=2,
        dense_layers=1,
        dense_intermediate=44,
        dtype="fp32",
        expert_dtype="fp32",
    )


def _close(parts: list[Tensor], whole: Tensor) -> None:
    torch.testing.assert_close(torch.stack(parts).double().sum(0), whole.double(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("heads", "ranks", "window"), list(itertools.product(HEADS, (1, 2, 3, 4, 7), (None, 4))))
def test_heads_add_up(heads: tuple[int, int], ranks: int, window: int | None) -> None:
    shape = _shape(*heads, window)
    x = hidden_inputs(shape, BATCH, 3)
    weights = layer_weights(shape, 0, 3, 0.0)
    caches = [cached_kv(shape, 0, chunk, 3) if chunk.context_tokens else None for chunk in BATCH]
    whole = attention(shape, weights, x, BATCH, caches, 0) - x
    parts = []
    for rank in range(ranks):
        share = share_of(shape, ranks, rank)
        if share.heads:
            kept = [None if cached is None else narrow_cache(cached, share) for cached in caches]
            mine, of_head = narrow_layer(shape, weights, share), kv_of_head(shape, share)
            parts.append(attended(narrowed(shape, share), mine, x, BATCH, kept, 0, of_head))
    assert len(parts) == min(ranks, heads[0])
    _close(parts, whole)


@pytest.mark.parametrize("ranks", [1, 2, 3, 5, 30])
def test_columns_add_up(ranks: int) -> None:
    shape = _shape(4, 2)
    x = hidden_inputs(shape, BATCH, 5)
    dense, moe = layer_weights(shape, 0, 5, 0.0), layer_weights(shape, 1, 5, 0.0)
    routing = route(shape, moe, x)
    drawn = [expert_weights(shape, 1, expert, 5) for expert in range(shape.experts)]
    parts: dict[str, list[Tensor]] = {"dense": [], "routed": [], "shared": []}
    for rank in range(ranks):
        share = share_of(shape, ranks, rank)
        narrow = narrowed(shape, share)
        parts["dense"].append(dense_output(narrow, narrow_layer(shape, dense, share), x))
        w13, w2 = zip(*(narrow_expert(*each, share.columns) for each in drawn), strict=True)
        assert {tuple(each.shape) for each in w13} == {(2 * len(share.columns), shape.hidden)}
        parts["routed"].append(experts(narrow, routing, w13, w2))
        shared = shared_experts(narrow, narrow_layer(shape, moe, share), routing.normed)
        assert shared is not None
        parts["shared"].append(shared)
    _close(parts["dense"], dense_mlp(shape, dense, x) - x)
    w13, w2 = zip(*drawn, strict=True)
    _close(parts["routed"], experts(shape, routing, w13, w2))
    whole = shared_experts(shape, moe, routing.normed)
    assert whole is not None
    _close(parts["shared"], whole)


def test_the_share_of_one_rank_is_the_layer() -> None:
    shape = _shape(6, 2)
    share = share_of(shape, 1, 0)
    for layer in range(2):
        weights = layer_weights(shape, layer, 0, 0.0)
        for name, whole in vars(weights).items():
            kept = getattr(narrow_layer(shape, weights, share), name)
            assert kept is whole is None or torch.equal(kept, whole)
    assert kv_of_head(shape, share) is None


def test_a_rank_keeps_no_more_than_its_share() -> None:
    """What a view of the whole would keep alive."""
    shape = _shape(6, 3)
    for layer in range(2):
        whole = layer_weights(shape, layer, 0, 0.0)
        mine = narrow_layer(shape, whole, share_of(shape, 3, 1))
        for name in ("qkv", "output", "shared_w13", "shared_w2", "dense_w13", "dense_w2"):
            kept = getattr(mine, name)
            if kept is not None:
                assert kept.untyped_storage().nbytes() == kept.numel() * kept.itemsize < getattr(whole, name).nbytes
                assert kept.is_contiguous()
