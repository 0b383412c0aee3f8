"""Routed experts as ranks keep them: decided by the seed, one range of bytes each, cut without a new scale."""

from __future__ import annotations

import itertools

import pytest
import torch
from any_decoder import small_shape
from dwdp_kernels.e4m3 import E4M3, Quantised, quantise
from dwdp_kernels.grouped_mlp import Weight
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dwdp_lab.model.kept_experts import as_stored, kept_weights, stored_form, table_of, weight_at
from dwdp_lab.model.layers import Routing, experts
from dwdp_lab.model.narrow import narrow_expert
from dwdp_lab.model.supported import check_runs_on_ranks
from dwdp_lab.model.weights import expert_weights
from dwdp_lab.program.pull_plan import parameter_bytes
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.model_shape import ModelShape
from dwdp_lab.scenario.shares import narrowed, share_of


def scaled(precision: str = "bf16", **changes: object) -> ModelShape:
    return small_shape(precision, **{"expert_dtype": "fp8_channel", **changes})


def kept(shape: ModelShape, expert: int, layer: int = 0, seed: int = 0) -> tuple[Weight, Weight]:
    return kept_weights(shape, expert_weights(shape, layer, expert, seed))


def same(one: Weight, other: Weight) -> bool:
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return isinstance(one, Tensor) and isinstance(other, Tensor) and torch.equal(one, other)
    return torch.equal(one.values.view(torch.uint8), other.values.view(torch.uint8)) and torch.equal(
        one.scales, other.scales
    )


@given(seed=st.integers(0, 3), layer=st.integers(0, 2), expert=st.integers(0, 3))
def test_seed_layer_and_expert_decide_every_bit(seed: int, layer: int, expert: int) -> None:
    """Whatever else the model has; and weights are drawn in the model's own type before they are quantised."""
    shape = scaled()
    again = scaled(layers=7, experts=9, top_k=1, shared_experts=1)
    plain = small_shape("bf16")
    for one, other, drawn in zip(
        kept(shape, expert, layer, seed),
        kept(again, expert, layer, seed),
        expert_weights(plain, layer, expert, seed),
        strict=True,
    ):
        assert isinstance(one, Quantised)
        assert (one.values.dtype, one.scales.dtype, one.scales.shape) == (E4M3, torch.float32, drawn.shape[:1])
        assert same(one, other)
        assert same(one, quantise(drawn))
        assert ((one.exact() - drawn.double()).abs() <= drawn.double().abs().amax(1, keepdim=True) / 28).all()
    others = [(seed + 1, layer, expert), (seed, layer + 1, expert), (seed, layer, expert + 1)]
    assert not any(same(kept(shape, expert, layer, seed)[0], kept(shape, e, at, s)[0]) for s, at, e in others)


@pytest.mark.parametrize("kind", ["bf16", "fp32", "fp8_channel"])
def test_what_is_stored_has_the_planned_bytes_and_comes_back(kind: str) -> None:
    shape = scaled(expert_dtype=kind)
    planned = dict(parameter_bytes(shape))
    for (name, _), weight in zip(shape.expert_matrices, kept(shape, 1), strict=True):
        stored = as_stored(weight)
        assert stored_form(shape, name) == (tuple(stored.shape), stored.dtype)
        assert stored.nbytes == planned[name]
        found = weight_at(shape, name, stored)
        assert same(found, weight)
        address = found.values.data_ptr() if isinstance(found, Quantised) else found.data_ptr()
        assert address == stored.data_ptr()


def test_tables_lead_to_values_and_scales() -> None:
    shape = scaled(expert_intermediate=32)
    for place, (name, size) in enumerate(shape.expert_matrices):
        weights = [kept(shape, expert)[place] for expert in range(4)]
        table = table_of(shape, name, torch.stack([as_stored(weight) for weight in weights]))
        assert (table.rows, table.columns, table.dtype) == (*size, E4M3)
        assert all(
            same(Quantised(*found), weight) for *found, weight in zip(table.weights, table.scales, weights, strict=True)
        )


@pytest.mark.parametrize("ranks", [1, 2, 3, 5, 30])
def test_shares_of_columns_add_up(ranks: int) -> None:
    """Each share has its own scales of w13 and all of w2: with the inner rows quantised alike, parts sum to the whole.

    They are not: a share quantises its own columns by their own largest number, an error of 2.6 % each time.
    """
    shape = scaled("fp32", expert_intermediate=20)
    torch.manual_seed(0)
    ids = torch.stack([torch.randperm(4)[:2] for _ in range(50)])
    routing = Routing(torch.randn(50, shape.hidden), ids, torch.rand(50, 2))
    whole = [kept(shape, expert) for expert in range(4)]
    total, covered = torch.zeros(50, shape.hidden), []
    for rank in range(ranks):
        share = share_of(shape, ranks, rank)
        narrow = narrowed(shape, share)
        parts = [narrow_expert(*each, share.columns) for each in whole]
        for (name, _), weight in zip(narrow.expert_matrices, parts[3], strict=True):
            assert as_stored(weight).nbytes == dict(parameter_bytes(narrow))[name]
            assert same(weight_at(narrow, name, as_stored(weight)), weight)
        covered += share.columns
        total += experts(narrow, routing, *zip(*parts, strict=True))
    assert covered == list(range(20))
    expected = experts(shape, routing, *zip(*whole, strict=True))
    error = (total - expected).double().square().mean().sqrt() / expected.double().square().mean().sqrt()
    assert error == 0 if ranks == 1 else error < 2 * 0.026


def test_cut_weights_are_those_of_the_whole() -> None:
    shape = scaled(expert_intermediate=20)
    w13, w2 = kept(shape, 2)
    assert isinstance(w13, Quantised)
    assert isinstance(w2, Quantised)
    cuts = [range(8), range(8, 16), range(16, 20)]
    parts = [narrow_expert(w13, w2, columns) for columns in cuts]
    gates, ups = ([each[0].exact().chunk(2)[half] for each in parts] for half in (0, 1))  # type: ignore[union-attr]
    assert torch.equal(torch.cat([*gates, *ups]), w13.exact())
    assert torch.equal(torch.cat([each[1].exact() for each in parts], dim=1), w2.exact())  # type: ignore[union-attr]


def test_ranks_take_it_and_name_it_among_what_they_take() -> None:
    for precision, hidden in itertools.product(("fp32", "bf16", "fp16"), (16, 36)):
        check_runs_on_ranks(scaled(precision, hidden=hidden))
    with pytest.raises(ScenarioError, match=r"model\.expert_dtype = 'fp8': .*fp32, bf16, fp16, fp8_channel"):
        check_runs_on_ranks(scaled(expert_dtype="fp8"))
    with pytest.raises(ScenarioError, match=r"model\.hidden = 34.*multiple of 4"):
        check_runs_on_ranks(scaled(hidden=34))
