"""Attention against calculations by hand, and cut in other ways."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from any_decoder import small_shape
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dwdp_lab.model import attention as attention_module
from dwdp_lab.model.attention import alike_attention, causal_attention, rope_tables, rotate
from dwdp_lab.model.inputs import cached_kv, hidden_inputs
from dwdp_lab.model.layers import attention, project, rms_norm
from dwdp_lab.model.weights import layer_weights
from dwdp_lab.scenario.batches import Batch, Chunk


def by_hand(q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
    """Query by query and head by head in fp64."""
    new, heads, size = q.shape
    context, group = len(k) - new, heads // k.shape[1]
    out = torch.empty(new, heads, size, dtype=torch.float64)
    for i in range(new):
        at = context + i
        first = 0 if window is None else max(0, at - window + 1)
        for head in range(heads):
            keys, values = (part[first : at + 1, head // group].double() for part in (k, v))
            shares = torch.softmax(keys @ q[i, head].double() / math.sqrt(size), dim=0)
            out[i, head] = shares @ values
    return out


@given(
    context=st.sampled_from([0, 0, 1, 9]),
    new=st.integers(1, 24),
    groups=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    window=st.sampled_from([None, 1, 2, 5, 24, 100]),
    block=st.sampled_from([1, 5, 1024]),
    seed=st.integers(0, 100),
)
def test_attention_equals_the_calculation_by_hand(
    context: int, new: int, groups: tuple[int, int], window: int | None, block: int, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    kv_heads, group = groups
    q = torch.randn(new, kv_heads * group, 8, generator=random)
    k, v = (torch.randn(context + new, kv_heads, 8, generator=random) for _ in range(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention_module, "QUERY_BLOCK", block)
        out = causal_attention(q, k, v, window)
    torch.testing.assert_close(out.double(), by_hand(q, k, v, window), rtol=1e-5, atol=1e-5)


@given(
    chunks=st.integers(1, 5),
    new=st.integers(1, 24),
    groups=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    seed=st.integers(0, 100),
)
def test_chunks_of_one_size_attend_as_each_alone(chunks: int, new: int, groups: tuple[int, int], seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    kv_heads, group = groups
    heads = kv_heads * group
    # as projected: queries, keys and values of a token beside each other
    qkv = torch.randn(chunks * new, heads + 2 * kv_heads, 8, generator=random)
    q, k, v = qkv[:, :heads], qkv[:, heads : heads + kv_heads], qkv[:, heads + kv_heads :]
    out = alike_attention(q, k, v, chunks)
    for chunk in range(chunks):
        span = slice(chunk * new, (chunk + 1) * new)
        torch.testing.assert_close(out[span], causal_attention(q[span], k[span], v[span], None))


@given(
    sizes=st.lists(st.tuples(st.sampled_from([1, 3, 3, 8]), st.sampled_from([0, 0, 0, 5])), min_size=1, max_size=6),
    window=st.sampled_from([None, 4]),
    layer=st.integers(0, 1),
)
def test_a_batch_attends_as_its_requests_alone(sizes: list[tuple[int, int]], window: int | None, layer: int) -> None:
    shape = small_shape(window=window)
    weights = layer_weights(shape, layer, 0, 0.0)
    batch = tuple(Chunk(number, context, new) for number, (new, context) in enumerate(sizes))
    x, cache = hidden_inputs(shape, batch, 0), caches(shape, batch, layer)
    whole, start = attention(shape, weights, x, batch, cache, layer), 0
    for chunk, cached in zip(batch, cache, strict=True):
        span = slice(start, start + chunk.new_tokens)
        torch.testing.assert_close(whole[span], attention(shape, weights, x[span], (chunk,), [cached], layer))
        start = span.stop


def test_rotation_keeps_lengths_and_depends_on_distance_only() -> None:
    batch = (Chunk(0, 100_000, 50),)
    cos, sin = rope_tables(batch, 16, 10000.0, torch.device("cpu"))
    vectors = torch.randn(2, 1, 1, 16, generator=torch.Generator().manual_seed(0))
    q, k = (rotate(vector.expand(50, 1, 16), cos, sin)[:, 0].double() for vector in vectors)
    torch.testing.assert_close(q.norm(dim=1), vectors[0].double().norm().expand(50), rtol=1e-6, atol=0)
    scores = q @ k.T
    for distance in range(-40, 40):
        diagonal = scores.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=0, atol=1e-5)


def test_angles_stay_exact_at_far_positions() -> None:
    cos, _ = rope_tables((Chunk(0, 1_000_000, 1),), 8, 10000.0, torch.device("cpu"))
    exact = [math.cos(1_000_000 * 10000.0 ** (-2 * i / 8)) for i in range(4)]
    assert cos.flatten().tolist() == pytest.approx(exact, abs=1e-6)


def caches(shape: object, batch: Batch, layer: int) -> list[tuple[Tensor, Tensor] | None]:
    return [cached_kv(shape, layer, c, 0) if c.context_tokens else None for c in batch]  # type: ignore[arg-type]


def test_a_lone_token_attends_to_itself() -> None:
    shape = small_shape()
    weights = layer_weights(shape, 0, 0, 0.0)
    batch = (Chunk(0, 0, 1),)
    x = hidden_inputs(shape, batch, 0)
    normed = rms_norm(x, weights.input_norm, shape.rms_eps)
    values = (normed @ weights.qkv[48:].T).view(2, 8)  # behind 4 query and 2 key heads of 8
    expected = x + values.repeat_interleave(2, 0).flatten() @ weights.output.T
    torch.testing.assert_close(attention(shape, weights, x, batch, [None], 0), expected)


@pytest.mark.parametrize("window", [None, 6])
@pytest.mark.parametrize("layer", [0, 1])
def test_a_request_in_two_chunks_equals_the_whole(window: int | None, layer: int) -> None:
    shape = small_shape(window=window)
    weights = layer_weights(shape, layer, 0, 0.0)
    whole = (Chunk(5, 0, 30),)
    x = hidden_inputs(shape, whole, 0)
    expected = attention(shape, weights, x, whole, [None], layer)
    _, keys, values = project(shape, weights, x, whole)
    for cut in (1, 13, 29):
        start = attention(shape, weights, x[:cut], (Chunk(5, 0, cut),), [None], layer)
        rest = attention(shape, weights, x[cut:], (Chunk(5, cut, 30 - cut),), [(keys[:cut], values[:cut])], layer)
        torch.testing.assert_close(torch.cat((start, rest)), expected)


def test_requests_of_a_batch_do_not_see_each_other() -> None:
    shape = small_shape()
    weights = layer_weights(shape, 1, 0, 0.0)
    batch = (Chunk(0, 0, 9), Chunk(1, 12, 4), Chunk(2, 0, 1))
    x = hidden_inputs(shape, batch, 0)
    together = attention(shape, weights, x, batch, caches(shape, batch, 1), 1)
    alone = [attention(shape, weights, hidden_inputs(shape, (c,), 0), (c,), caches(shape, (c,), 1), 1) for c in batch]
    torch.testing.assert_close(together, torch.cat(alone))


def test_the_window_limits_even_layers_only() -> None:
    free, narrow = small_shape(), small_shape(window=3)
    batch = (Chunk(0, 0, 12),)
    x = hidden_inputs(free, batch, 0)
    for layer in range(4):
        weights = layer_weights(free, layer, 0, 0.0)
        with_window, without = (attention(s, weights, x, batch, [None], layer) for s in (narrow, free))
        assert torch.equal(with_window[:3], without[:3])
        assert torch.equal(with_window, without) == (layer % 2 == 1)


def test_the_input_norm_matters() -> None:
    shape, batch = small_shape(), (Chunk(0, 0, 5),)
    weights = layer_weights(shape, 0, 0, 0.0)
    x = hidden_inputs(shape, batch, 0)
    flat = replace(weights, input_norm=torch.ones_like(weights.input_norm))
    assert not torch.allclose(
        attention(shape, weights, x, batch, [None], 0), attention(shape, flat, x, batch, [None], 0)
    )
    exact = x.double() / x.double().square().mean(1, keepdim=True).sqrt() * weights.input_norm.double()
    torch.testing.assert_close(rms_norm(x, weights.input_norm, 0.0).double(), exact, rtol=1e-6, atol=1e-6)


def test_nothing_in_nothing_out() -> None:
    shape = small_shape()
    empty = torch.empty(0, 32)
    assert attention(shape, layer_weights(shape, 0, 0, 0.0), empty, (), [], 0).shape == (0, 32)


def test_what_does_not_fit_is_refused() -> None:
    shape = small_shape()
    weights = layer_weights(shape, 0, 0, 0.0)
    x = torch.zeros(3, 32)
    with pytest.raises(ValueError, match="3 rows"):
        attention(shape, weights, x, (Chunk(0, 0, 4),), [None], 0)
    with pytest.raises(ValueError, match="0 cache entries"):
        attention(shape, weights, x, (Chunk(0, 0, 3),), [], 0)
    with pytest.raises(ValueError, match="request 8 has 5 context tokens, its cache 0"):
        attention(shape, weights, x, (Chunk(8, 5, 3),), [None], 0)
