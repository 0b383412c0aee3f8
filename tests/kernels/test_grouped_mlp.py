"""The experts' plain-torch kernel against a loop over tokens, and its promise of equal bits."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from dwdp_kernels.grouped_mlp import expert_product, expert_rows, grouped_mlp, sort_by_expert, swiglu_mlp, weighted_sum
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

TYPES = [torch.float32, torch.bfloat16, torch.float16]


def random_layer(
    experts: int, hidden: int, inner: int, dtype: torch.dtype, seed: int = 0
) -> tuple[list[Tensor], list[Tensor]]:
    random = torch.Generator().manual_seed(seed)
    w13 = [torch.randn(2 * inner, hidden, generator=random).div(math.sqrt(hidden)).to(dtype) for _ in range(experts)]
    w2 = [torch.randn(hidden, inner, generator=random).div(math.sqrt(inner)).to(dtype) for _ in range(experts)]
    return w13, w2


def random_tokens(tokens: int, hidden: int, dtype: torch.dtype, seed: int = 1) -> Tensor:
    return torch.randn(tokens, hidden, generator=torch.Generator().manual_seed(seed)).to(dtype)


def token_by_token(x: Tensor, ids: Tensor, weights: Tensor, w13: list[Tensor], w2: list[Tensor]) -> Tensor:
    out = torch.zeros(x.shape, dtype=torch.float64)
    for token in range(len(x)):
        for expert, weight in zip(ids[token].tolist(), weights[token].tolist(), strict=True):
            both = w13[expert].double() @ x[token].double()
            gate, up = both[: len(both) // 2], both[len(both) // 2 :]
            out[token] += weight * (w2[expert].double() @ (gate / (1 + torch.exp(-gate)) * up))
    return out


@given(
    experts=st.integers(1, 6),
    tokens=st.integers(0, 20),
    hidden=st.sampled_from([8, 20, 32]),
    inner=st.sampled_from([1, 5, 16]),
    dtype=st.sampled_from(TYPES),
    data=st.data(),
)
def test_equals_a_loop_over_tokens(
    experts: int, tokens: int, hidden: int, inner: int, dtype: torch.dtype, data: st.DataObject
) -> None:
    top_k = data.draw(st.integers(1, experts))
    seed = data.draw(st.integers(0, 1000))
    random = torch.Generator().manual_seed(seed)
    w13, w2 = random_layer(experts, hidden, inner, dtype, seed)
    x = random_tokens(tokens, hidden, dtype, seed)
    ids = torch.rand(tokens, experts, generator=random).argsort(dim=1)[:, :top_k]
    weights = torch.rand(tokens, top_k, generator=random).to(dtype)
    result = grouped_mlp(x, ids, weights, w13, w2)
    assert result.dtype == dtype
    exact = token_by_token(x, ids, weights, w13, w2)
    # five roundings of values up to a few units
    size = max(1.0, float(exact.abs().max())) if tokens else 1.0
    torch.testing.assert_close(result.double(), exact, rtol=0, atol=8 * torch.finfo(dtype).eps * size)


@pytest.mark.parametrize("dtype", TYPES)
def test_all_rows_on_one_expert(dtype: torch.dtype) -> None:
    w13, w2 = random_layer(5, 16, 8, dtype)
    x = random_tokens(9, 16, dtype)
    ones = torch.ones(9, 1, dtype=dtype)
    result = grouped_mlp(x, torch.full((9, 1), 3), ones, w13, w2)
    assert torch.equal(result, swiglu_mlp(x, w13[3], w2[3]))


def split_views(tensors: list[Tensor], cut: int, shift: int) -> list[Tensor]:
    """The same weights in two buffers, the second of which starts `shift` elements late."""
    views = []
    for part, late in ((tensors[:cut], 0), (tensors[cut:], shift)):
        buffer = torch.empty(late + sum(t.numel() for t in part), dtype=tensors[0].dtype)
        for tensor in part:
            view = buffer[late : late + tensor.numel()].view(tensor.shape)
            view.copy_(tensor)
            views.append(view)
            late += tensor.numel()
    return views


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("hidden", "inner"), [(64, 96), (20, 7)])
@pytest.mark.parametrize("rows", [3, 40, 257])
def test_the_buffer_does_not_matter_bit_for_bit(dtype: torch.dtype, hidden: int, inner: int, rows: int) -> None:
    experts = 5
    w13, w2 = random_layer(experts, hidden, inner, dtype)
    x = random_tokens(rows, hidden, dtype)
    random = torch.Generator().manual_seed(3)
    ids = torch.rand(rows, experts, generator=random).argsort(dim=1)[:, :2]
    weights = torch.rand(rows, 2, generator=random).to(dtype)
    one = grouped_mlp(x, ids, weights, torch.stack(w13).unbind(0), torch.stack(w2).unbind(0))
    for cut in (0, 2, experts):
        for shift in (0, 1, 2, 5, 8):
            views = split_views(w13, cut, shift), split_views(w2, cut, shift)
            assert torch.equal(grouped_mlp(x, ids, weights, *views), one), (cut, shift)


@pytest.mark.parametrize("dtype", TYPES)
def test_the_other_experts_do_not_matter_bit_for_bit(dtype: torch.dtype) -> None:
    w13, w2 = random_layer(4, 20, 7, dtype)
    x = random_tokens(60, 20, dtype)
    offsets = [0, 13, 13, 50, 60]
    together = expert_rows(x, offsets, w13, w2)
    for expert in range(4):
        span = slice(offsets[expert], offsets[expert + 1])
        own = x[span].clone()
        alone = expert_rows(own, [0, len(own)], w13[expert : expert + 1], w2[expert : expert + 1])
        assert torch.equal(together[span], alone)


def test_rows_by_tensor_offsets_and_empty() -> None:
    w13, w2 = random_layer(3, 8, 4, torch.float32)
    x = random_tokens(6, 8, torch.float32)
    assert torch.equal(expert_rows(x, torch.tensor([0, 2, 2, 6]), w13, w2), expert_rows(x, [0, 2, 2, 6], w13, w2))
    assert expert_rows(x[:0], [0, 0, 0, 0], w13, w2).shape == (0, 8)
    empty = grouped_mlp(x[:0], torch.empty(0, 2, dtype=torch.int64), torch.empty(0, 2), w13, w2)
    assert empty.shape == (0, 8)


def test_weights_of_another_type_are_cast() -> None:
    w13, w2 = random_layer(2, 16, 8, torch.bfloat16)
    x = random_tokens(10, 16, torch.float32)
    wide = expert_rows(x, [0, 4, 10], [w.float() for w in w13], [w.float() for w in w2])
    assert torch.equal(expert_rows(x, [0, 4, 10], w13, w2), wide)


@given(
    ids=st.integers(1, 3).flatmap(lambda k: st.lists(st.lists(st.integers(0, 5), min_size=k, max_size=k), max_size=30))
)
def test_sorting_by_expert(ids: list[list[int]]) -> None:
    visits = [(expert, place) for place, expert in enumerate(e for row in ids for e in row)]
    order, offsets = sort_by_expert(torch.tensor(ids, dtype=torch.int64).view(len(ids), -1 if ids else 1), 6)
    assert order.tolist() == [place for _, place in sorted(visits)]
    assert offsets == [sum(expert < limit for expert, _ in visits) for limit in range(7)]


def test_the_sum_keeps_the_order_of_its_terms() -> None:
    rows = torch.tensor([[[1e8], [1.0], [-1e8]]])
    assert weighted_sum(rows, torch.ones(1, 3)).tolist() == [[0.0]]  # (1e8 + 1) - 1e8 in fp32
    assert weighted_sum(rows[:, [0, 2, 1]], torch.ones(1, 3)).tolist() == [[1.0]]


@pytest.mark.parametrize(
    ("offsets", "experts"), [([0, 3, 6], 3), ([0, 2, 4, 5], 3), ([1, 2, 4, 6], 3), ([0, 2, 4, 6], 2)]
)
def test_what_does_not_fit_is_refused(offsets: list[int], experts: int) -> None:
    w13, w2 = random_layer(experts, 8, 4, torch.float32)
    with pytest.raises(ValueError, match="offsets"):
        expert_rows(random_tokens(6, 8, torch.float32), offsets, w13, w2)


@given(counts=st.lists(st.integers(0, 5), min_size=1, max_size=5), dtype=st.sampled_from(TYPES))
def test_a_product_is_one_for_each_expert_whatever_the_buffer(counts: list[int], dtype: torch.dtype) -> None:
    w13, _ = random_layer(len(counts), 20, 3, dtype)
    x = random_tokens(sum(counts), 20, dtype)
    offsets = [0, *torch.tensor(counts).cumsum(0).tolist()]
    result = expert_product(x, offsets, w13)
    assert (result.shape, result.dtype) == ((sum(counts), 6), dtype)
    elsewhere = [torch.cat([w.new_zeros(1), w.flatten()])[1:].view_as(w) for w in w13]  # not aligned
    assert torch.equal(result, expert_product(x, offsets, elsewhere))
    for expert, (start, end) in enumerate(itertools.pairwise(offsets)):
        exact = x[start:end].double() @ w13[expert].double().T
        torch.testing.assert_close(
            result[start:end].double(), exact, rtol=4 * torch.finfo(dtype).eps, atol=20 * torch.finfo(dtype).eps
        )
