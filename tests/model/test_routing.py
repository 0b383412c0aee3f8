"""The router: which experts, how much each, and the same answer every time."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from any_decoder import small_shape
from hypothesis import given
from hypothesis import strategies as st

from dwdp_lab.model.decoder import run_decoder
from dwdp_lab.model.inputs import hidden_inputs
from dwdp_lab.model.layers import dense_mlp, route, shared_experts, top_experts
from dwdp_lab.model.weights import layer_weights
from dwdp_lab.scenario.batches import Chunk
from dwdp_lab.scenario.router import visit_probability

few_values = st.sampled_from([-3e38, -2.5, -1.0, -1e-45, -0.0, 0.0, 1e-45, 1.0, 1.0000001, 7.0])


@given(data=st.data(), experts=st.integers(1, 9), tokens=st.integers(0, 5))
def test_top_experts_equal_a_stable_sort(data: st.DataObject, experts: int, tokens: int) -> None:
    rows = st.lists(few_values, min_size=experts, max_size=experts)
    scores = torch.tensor(data.draw(st.lists(rows, min_size=tokens, max_size=tokens)), dtype=torch.float32).view(
        tokens, experts
    )
    top_k = data.draw(st.integers(1, experts))
    expected = scores.sort(dim=1, descending=True, stable=True).indices[:, :top_k]
    assert torch.equal(top_experts(scores, top_k), expected)


@pytest.mark.parametrize("normalise", [True, False])
def test_weights_are_the_softmax_of_the_chosen(normalise: bool) -> None:
    shape = small_shape(experts=6, top_k=3, normalise_top_k=normalise)
    x = hidden_inputs(shape, (Chunk(0, 0, 40),), 1)
    weights = layer_weights(shape, 0, 1, 0.0)
    routing = route(shape, weights, x)
    assert weights.router is not None
    shares = torch.softmax(routing.normed.double() @ weights.router.double().T, dim=1)
    best = shares.topk(3, dim=1)
    assert torch.equal(routing.ids, best.indices)
    expected = best.values / best.values.sum(1, keepdim=True) if normalise else best.values
    torch.testing.assert_close(routing.weights.double(), expected, rtol=1e-5, atol=1e-6)


def test_the_bias_selects_but_does_not_weigh() -> None:
    shape = small_shape(top_k=1)
    weights = layer_weights(shape, 0, 0, 0.0)
    x = hidden_inputs(shape, (Chunk(0, 0, 20),), 0)
    pushed = replace(weights, router_bias=torch.tensor([0.0, 0.0, 50.0, 0.0]))
    whole = small_shape(top_k=4, normalise_top_k=False)
    every = route(whole, weights, x)
    chosen = route(small_shape(top_k=1, normalise_top_k=False), pushed, x)
    assert (chosen.ids == 2).all()
    assert torch.equal(chosen.weights[:, 0], every.weights[every.ids == 2])


def test_equal_scores_go_to_the_lower_expert() -> None:
    shape = small_shape(experts=5, top_k=3)
    weights = layer_weights(shape, 0, 0, 0.0)
    assert weights.router is not None
    tied = replace(weights, router=torch.zeros_like(weights.router))
    routing = route(shape, tied, hidden_inputs(shape, (Chunk(0, 0, 7),), 0))
    assert routing.ids.tolist() == [[0, 1, 2]] * 7
    torch.testing.assert_close(routing.weights, torch.full((7, 3), 1 / 3))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_types(precision: str) -> None:
    shape = small_shape(precision)
    routing = route(shape, layer_weights(shape, 0, 0, 0.0), hidden_inputs(shape, (Chunk(0, 0, 3),), 0))
    assert routing.ids.dtype == torch.int64
    assert routing.weights.dtype == routing.normed.dtype == hidden_inputs(shape, (), 0).dtype


def test_no_tokens() -> None:
    shape = small_shape()
    routing = route(shape, layer_weights(shape, 0, 0, 0.0), torch.empty(0, 32))
    assert (routing.ids.shape, routing.weights.shape, routing.normed.shape) == ((0, 2), (0, 2), (0, 32))


def test_skewed_routing_in_a_real_pass() -> None:
    shape = small_shape(hidden=64, layers=3, experts=8, vocab=4000)
    batch = tuple(Chunk(request, 0, 30) for request in range(60))
    for skew in (0.0, 1.0):
        result = run_decoder(shape, batch, 0, skew)
        for layer, ids in enumerate(result.routing):
            visits = torch.bincount(ids.flatten(), minlength=8) / len(ids)
            wanted = torch.tensor(visit_probability(8, 2, skew, 0, layer))
            # a layer's logits are not exactly normal: experts with a favoured direction are visited more
            assert float((visits - wanted).abs().sum()) / 4 < 0.15
            if skew:
                assert int(visits.argmax()) == int(wanted.argmax())


def test_layers_of_the_other_kind_are_refused() -> None:
    shape = small_shape(dense_layers=1, dense_intermediate=20, shared_experts=1)
    dense, moe = (layer_weights(shape, layer, 0, 0.0) for layer in (0, 1))
    x = torch.zeros(2, 32)
    with pytest.raises(ValueError, match="no router"):
        route(shape, dense, x)
    with pytest.raises(ValueError, match="no shared experts"):
        shared_experts(shape, dense, x)
    with pytest.raises(ValueError, match="no dense MLP"):
        dense_mlp(shape, moe, x)
    assert shared_experts(small_shape(), moe, x) is None
