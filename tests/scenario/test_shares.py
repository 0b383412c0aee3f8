"""Cutting layers across and between: every head, column and layer has its rank, whatever the numbers."""

from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwdp_lab.scenario.model_config import read_model
from dwdp_lab.scenario.model_shape import GroupedQueryAttention, ModelShape
from dwdp_lab.scenario.shares import COLUMN_UNIT, column_unit, cut, narrowed, share_of, stage_of


def _model(kv_heads: int = 2, group: int = 3, inner: int = 96, dense: int = 0, layers: int = 4) -> ModelShape:
    return ModelShape(
        layers=layers,
        hidden=32,
        attention=GroupedQueryAttention(heads=kv_heads * group, kv_heads=kv_heads, head_dim=8),
        experts=4,
        top_k=2,
        expert_intermediate=inner,
        dense_layers=1 if dense else 0,
        dense_intermediate=dense,
    )


@given(st.integers(0, 300), st.integers(1, 40))
def test_a_cut_deals_everything_out_evenly_and_in_order(total: int, ranks: int) -> None:
    parts = [cut(total, ranks, rank) for rank in range(ranks)]
    assert list(chain.from_iterable(parts)) == list(range(total))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(
    kv_heads=st.integers(1, 5),
    group=st.integers(1, 5),
    inner=st.integers(1, 300),
    dense=st.integers(0, 300),
    layers=st.integers(2, 9),
    ranks=st.integers(1, 12),
)
def test_shares_cover_a_layer_once(kv_heads: int, group: int, inner: int, dense: int, layers: int, ranks: int) -> None:
    model = _model(kv_heads, group, inner, dense, layers)
    shares = [share_of(model, ranks, rank) for rank in range(ranks)]
    assert list(chain.from_iterable(share.heads for share in shares)) == list(range(kv_heads * group))
    assert list(chain.from_iterable(share.columns for share in shares)) == list(range(inner))
    assert list(chain.from_iterable(share.dense_columns for share in shares)) == list(range(dense))
    for share in shares:
        assert {head // group for head in share.heads} == set(share.kv_heads)
    if inner >= ranks:
        assert all(share.columns for share in shares)
    assert list(chain.from_iterable(stage_of(model, ranks, rank) for rank in range(ranks))) == list(range(layers))


@pytest.mark.parametrize(("width", "ranks", "unit"), [(768, 4, 32), (2048, 3, 32), (96, 4, 16), (20, 3, 4), (7, 3, 1)])
def test_columns_come_in_blocks_that_kernels_and_formats_like(width: int, ranks: int, unit: int) -> None:
    assert column_unit(width, ranks) == unit <= COLUMN_UNIT


def test_one_rank_keeps_all() -> None:
    model = _model(dense=48)
    assert narrowed(model, share_of(model, 1, 0)) == model


@given(st.sampled_from(["qwen3-30b-a3b", "deepseek-r1", "gpt-oss-120b"]), st.sampled_from([1, 2, 4, 8]))
def test_narrow_models_add_up_to_the_whole(preset: str, ranks: int) -> None:
    """But for what all ranks keep: DeepSeek's projections down to the latent, and key heads there are too few of."""
    model = read_model(preset)
    narrow = [narrowed(model, share_of(model, ranks, rank)) for rank in range(ranks)]
    assert sum(each.expert_params for each in narrow) == model.expert_params
    heads = [each.attention for each in narrow]
    assert sum(each.output_params(model.hidden) for each in heads) == model.attention.output_params(model.hidden)
    assert sum(each.core_flops_per_pair() for each in heads) == model.attention.core_flops_per_pair()
    extra = sum(each.projection_params(model.hidden) for each in heads) - model.attention.projection_params(
        model.hidden
    )
    if isinstance(model.attention, GroupedQueryAttention):
        copies = sum(each.kv_heads for each in heads if isinstance(each, GroupedQueryAttention))
        assert extra == 2 * model.hidden * model.attention.head_dim * (copies - model.attention.kv_heads)
        assert copies == max(ranks, model.attention.kv_heads)
    else:
        latent = model.attention
        down = latent.q_lora_rank + latent.kv_lora_rank + latent.qk_rope_head_dim
        assert extra == (ranks - 1) * model.hidden * down
