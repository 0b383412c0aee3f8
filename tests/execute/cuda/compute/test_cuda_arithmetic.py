"""The reference arithmetic of the CUDA machine, and the layers made of it, against the model's own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from dwdp_kernels.choice import choose_experts_reference
from dwdp_kernels.expert_table import expert_table
from dwdp_kernels.grouped_mlp import grouped_mlp, weighted_sum
from dwdp_kernels.rotary import rotate_in_place_reference
from hypothesis import given
from hypothesis import strategies as st
from rank_scenarios import MODEL

from dwdp_lab.execute.cuda.compute import decoder_layers
from dwdp_lab.execute.cuda.compute.torch_arithmetic import TorchArithmetic
from dwdp_lab.execute.cuda.experts.staging import LayerTables
from dwdp_lab.model.inputs import cached_kv, hidden_inputs
from dwdp_lab.model.layers import attended, dense_output, route
from dwdp_lab.model.weights import expert_weights, layer_weights
from dwdp_lab.scenario.batches import Chunk
from dwdp_lab.scenario.scenario import Scenario

ARITHMETIC = TorchArithmetic()
SHAPE = Scenario.create(model=MODEL | {"attention": {"kind": "gqa", "heads": 4, "kv_heads": 2, "head_dim": 16}}).model
BATCH = (Chunk(0, 3, 5), Chunk(1, 0, 4))


def test_the_layers_are_the_model_s() -> None:
    x = hidden_inputs(SHAPE, BATCH, 0)
    for layer in range(2):
        weights = layer_weights(SHAPE, layer, 0, 1.0)
        cache = [cached_kv(SHAPE, layer, chunk, 0) if chunk.context_tokens else None for chunk in BATCH]
        tokens = decoder_layers.Tokens(BATCH, *decoder_layers.angles(SHAPE, BATCH, x.device), cache)
        normed, after = (ARITHMETIC.norm(x, each, SHAPE.rms_eps) for each in (weights.input_norm, weights.post_norm))
        found = decoder_layers.attended(ARITHMETIC, SHAPE, weights, normed, tokens, layer, None)
        assert torch.equal(found, attended(SHAPE, weights, x, BATCH, cache, layer))
        if layer:
            mine, theirs = decoder_layers.route(ARITHMETIC, SHAPE, weights, after), route(SHAPE, weights, x)
            assert mine.ids.dtype == torch.int32
            assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
        else:
            assert torch.equal(decoder_layers.dense_output(weights, after), dense_output(SHAPE, weights, x))


def test_what_a_layer_does_not_have_is_told() -> None:
    x = hidden_inputs(SHAPE, BATCH, 0)
    with pytest.raises(ValueError, match="no router"):
        decoder_layers.route(ARITHMETIC, SHAPE, layer_weights(SHAPE, 0, 0, 0.0), x)
    with pytest.raises(ValueError, match="no dense MLP"):
        decoder_layers.dense_output(layer_weights(SHAPE, 1, 0, 0.0), x)


@given(tokens=st.integers(0, 8), top_k=st.integers(1, 4), groups=st.integers(1, 5), seed=st.integers(0, 99))
def test_visits_are_sorted_and_brought_back(tokens: int, top_k: int, groups: int, seed: int) -> None:
    """Some visits are to no group. Rows of a group keep the order of tokens."""
    torch.manual_seed(seed)
    ids = torch.randint(-1, groups + 1, (tokens, top_k), dtype=torch.int32)
    routes = ARITHMETIC.sort(ids, groups)
    ends = routes.offsets.tolist()
    for group in range(groups):
        rows = routes.token_of_row[ends[group] : ends[group + 1]].tolist()
        assert rows == [token for token in range(tokens) for each in ids[token].tolist() if each == group]
    inside = (ids >= 0) & (ids < groups)
    assert torch.equal(routes.row_of_visit >= 0, inside)
    rows = torch.randn(ends[-1], 6)
    weights = torch.rand(tokens, top_k)
    expected = weighted_sum(
        torch.stack(
            [rows[row] if row >= 0 else torch.zeros(6) for row in routes.row_of_visit.reshape(-1).tolist()]
        ).view(tokens, top_k, 6)
        if tokens
        else torch.zeros(0, top_k, 6),
        weights,
    )
    assert torch.equal(ARITHMETIC.combine(rows, routes.row_of_visit, weights), expected)


@given(tokens=st.integers(0, 8), first=st.integers(0, 7), seed=st.integers(0, 99))
def test_experts_that_are_elsewhere_count_for_nothing(tokens: int, first: int, seed: int) -> None:
    """The sum over ranks of what each gives for its own experts is the whole."""
    torch.manual_seed(seed)
    w13, w2 = zip(*(expert_weights(SHAPE, 1, expert, 0) for expert in range(SHAPE.experts)), strict=True)
    x, weights = torch.randn(tokens, SHAPE.hidden), torch.rand(tokens, 3)
    ids = torch.randint(SHAPE.experts, (tokens, 3), dtype=torch.int32)

    def part(low: int, high: int) -> torch.Tensor:
        tables = LayerTables(expert_table(w13[low:high]), expert_table(w2[low:high]))
        return ARITHMETIC.experts(x, ids - low, weights, tables, ids.numel())

    whole = grouped_mlp(x, ids.long(), weights, w13, w2)
    assert torch.equal(part(0, SHAPE.experts), whole)
    if first:
        assert torch.allclose(part(0, first) + part(first, SHAPE.experts), whole, atol=1e-5)


def test_the_kernels_references_are_the_model_s() -> None:
    """What the kernels are tested against in their own room, which may not look into this one."""
    torch.manual_seed(0)
    x, (cos, sin) = torch.randn(9, 3, 16), decoder_layers.angles(SHAPE, BATCH, torch.device("cpu"))
    turned = x.clone()
    ARITHMETIC.rotate(turned, cos, sin)
    rotate_in_place_reference(x, cos, sin)
    assert torch.equal(x, turned)
    logits, bias = torch.randint(5, (9, 8)).float(), torch.randint(2, (8,)).float()
    for normalise in (True, False):
        ids, weights = ARITHMETIC.choose(logits, bias, 3, normalise, torch.bfloat16)
        expected = choose_experts_reference(logits, bias, 3, normalise, torch.bfloat16)
        assert torch.equal(ids, expected[0])
        assert torch.equal(weights, expected[1])


def test_beside_collectives_the_same_tiles_are_shared_by_more_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    triton_arithmetic = pytest.importorskip("dwdp_lab.execute.cuda.compute.triton_arithmetic")
    launch = pytest.importorskip("dwdp_kernels.launch")
    monkeypatch.setattr(triton_arithmetic, "device_of", lambda _: launch.Device("NVIDIA H200", (9, 0), 132))
    seen: list[Any] = []
    monkeypatch.setattr(triton_arithmetic, "expert_mlp", lambda *arguments: seen.append(arguments[-1]))
    x, w13, w2 = torch.empty(4, 64), torch.empty(8, 64, 64), torch.empty(8, 64, 32)
    tables = LayerTables(expert_table(w13), expert_table(w2))
    nothing = torch.empty(0)
    alone = triton_arithmetic.TritonArithmetic()
    for arithmetic in (alone, alone.beside_collectives()):
        arithmetic.experts(x, nothing, nothing, tables, 4096)
    for one, shared in zip(*seen, strict=True):
        assert shared.programs_per_processor == 8 * one.programs_per_processor
        assert replace(shared, programs_per_processor=one.programs_per_processor) == one
