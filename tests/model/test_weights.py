"""Seeded weights: every rank makes the same ones alone."""

from __future__ import annotations

import itertools
import math
from dataclasses import fields

import pytest
import torch
from any_decoder import LATENT, small_shape
from torch import Tensor

from dwdp_lab.model.supported import check_runs_on_ranks
from dwdp_lab.model.weights import (
    expert_parameters,
    expert_weights,
    layer_weights,
    router_bias,
    torch_dtype,
)
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.router import visit_probability


def test_an_expert_is_decided_by_seed_layer_and_expert_alone() -> None:
    shape = small_shape()
    again = small_shape(layers=7, experts=40, top_k=5, shared_experts=2)
    for place in itertools.product(range(2), range(2), range(2)):
        seed, layer, expert = place
        first = expert_weights(shape, layer, expert, seed)
        second = expert_weights(again, layer, expert, seed)
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_no_two_experts_share_weights() -> None:
    shape = small_shape()
    places = list(itertools.product(range(2), range(3), range(3)))
    made = [expert_weights(shape, layer, expert, seed) for seed, layer, expert in places]
    for (w13, w2), (other13, other2) in itertools.combinations(made, 2):
        assert not torch.isclose(w13, other13).flatten().float().mean() > 0.01
        assert not torch.isclose(w2, other2).flatten().float().mean() > 0.01


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_sizes_types_and_scale(precision: str) -> None:
    shape = small_shape(precision, hidden=64, expert_intermediate=48)
    assert expert_parameters(shape) == (("w13", (96, 64)), ("w2", (64, 48)))
    for (_, size), weight in zip(expert_parameters(shape), expert_weights(shape, 1, 2, 3), strict=True):
        assert weight.shape == size
        assert weight.dtype == torch_dtype(shape.expert_dtype)
        assert float(weight.float().std()) == pytest.approx(1 / math.sqrt(size[1]), rel=0.05)
    parameters = sum(math.prod(size) for _, size in expert_parameters(shape))
    assert parameters == shape.expert_params


def test_a_layer_has_what_its_kind_needs() -> None:
    shape = small_shape(dense_layers=1, dense_intermediate=20, shared_experts=3, expert_dtype="bf16")
    dense, moe = layer_weights(shape, 0, 0, 0.0), layer_weights(shape, 1, 0, 0.0)
    sizes = {
        name: tuple(tensor.shape)
        for weights in (dense, moe)
        for name in (field.name for field in fields(weights))
        if (tensor := getattr(weights, name)) is not None
    }
    assert sizes == {
        "input_norm": (32,),
        "qkv": (64, 32),
        "output": (32, 32),
        "post_norm": (32,),
        "router": (4, 32),
        "router_bias": (4,),
        "shared_w13": (2 * 3 * 24, 32),
        "shared_w2": (32, 3 * 24),
        "dense_w13": (40, 32),
        "dense_w2": (32, 20),
    }
    assert dense.router is dense.shared_w13 is dense.shared_w2 is moe.dense_w13 is moe.dense_w2 is None
    assert moe.shared_w13 is not None
    assert moe.shared_w13.dtype == torch.bfloat16
    assert layer_weights(small_shape(), 0, 0, 0.0).shared_w13 is None


def test_layers_are_deterministic_and_different() -> None:
    shape = small_shape()

    def tensors(layer: int, seed: int) -> list[Tensor]:
        weights = layer_weights(shape, layer, seed, 1.0)
        return [getattr(weights, f.name) for f in fields(weights) if getattr(weights, f.name) is not None]

    assert all(torch.equal(a, b) for a, b in zip(tensors(1, 5), tensors(1, 5), strict=True))
    for other in (tensors(0, 5), tensors(1, 6)):
        assert not any(torch.equal(a, b) for a, b in zip(tensors(1, 5), other, strict=True))


def test_no_skew_no_bias() -> None:
    assert router_bias(small_shape(), 0, 0, 0.0) == [0.0] * 4
    assert not layer_weights(small_shape(), 0, 0, 0.0).router_bias.any()


@pytest.mark.parametrize(("experts", "top_k", "skew"), [(8, 2, 0.5), (16, 2, 1.0), (64, 8, 1.0), (16, 4, 2.0)])
def test_skewed_tokens_visit_experts_as_often_as_the_simulator_expects(experts: int, top_k: int, skew: float) -> None:
    shape = small_shape(experts=experts, top_k=top_k)
    logits = torch.randn(20000, experts, generator=torch.Generator().manual_seed(1))
    chosen = (logits + torch.tensor(router_bias(shape, 1, 3, skew))).topk(top_k, dim=1).indices
    visits = torch.bincount(chosen.flatten(), minlength=experts) / len(logits)
    wanted = torch.tensor(visit_probability(experts, top_k, skew, 3, 1))
    assert float((visits - wanted).abs().sum()) / 2 / top_k < 0.03


def test_formats_that_ranks_do_not_compute_in_are_refused() -> None:
    with pytest.raises(ScenarioError, match=r"model\.expert_dtype = 'nvfp4'.*fp32, bf16, fp16") as caught:
        expert_weights(small_shape(expert_dtype="nvfp4"), 0, 0, 0)
    assert caught.value.field == "model.expert_dtype"
    with pytest.raises(ScenarioError) as caught:
        check_runs_on_ranks(small_shape(dtype="fp8"))
    assert caught.value.field == "model.dtype"


def test_attention_that_ranks_do_not_compute_is_refused() -> None:
    with pytest.raises(ScenarioError, match="simulator only") as caught:
        layer_weights(small_shape(attention=LATENT), 0, 0, 0.0)
    assert caught.value.field == "model.attention.kind"
    odd = {"kind": "gqa", "heads": 1, "kv_heads": 1, "head_dim": 5}
    with pytest.raises(ScenarioError) as caught:
        check_runs_on_ranks(small_shape(attention=odd))
    assert caught.value.field == "model.attention.head_dim"


def test_supported_shapes_pass() -> None:
    for precision in ("fp32", "bf16", "fp16"):
        check_runs_on_ranks(small_shape(precision))
