"""The fp64 oracle against plain Python numbers, the decoder against the oracle, and faults that must be found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from any_decoder import LATENT, batches, shapes, small_shape
from dwdp_kernels.e4m3 import Quantised
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plain_python import decode
from torch import Tensor

from dwdp_lab.model import decoder
from dwdp_lab.model.decoder import run_decoder
from dwdp_lab.model.layers import Routing
from dwdp_lab.model.oracle import IllegitimateRouting, OracleMismatch, compare, oracle
from dwdp_lab.scenario.batches import Chunk
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.model_shape import ModelShape

BATCH = (Chunk(0, 0, 20), Chunk(1, 11, 9), Chunk(2, 0, 1), Chunk(3, 4, 30))


@pytest.mark.parametrize(
    ("fields", "skew"),
    [
        ({}, 0.0),
        ({"window": 3, "layers": 3}, 0.0),
        ({"normalise_top_k": False, "top_k": 4, "shared_experts": 2}, 1.0),
        ({"dense_layers": 1, "dense_intermediate": 20, "precision": "bf16", "expert_dtype": "fp32"}, 2.0),
    ],
)
def test_the_oracle_equals_plain_python(fields: dict[str, Any], skew: float) -> None:
    shape = small_shape(**fields)
    batch = (Chunk(3, 0, 6), Chunk(1, 5, 4))
    result = oracle(shape, batch, 4, skew)
    rows, routing = decode(shape, batch, 4, skew)
    torch.testing.assert_close(result.output, torch.tensor(rows, dtype=torch.float64), rtol=0, atol=1e-9)
    assert [ids.sort(1).values.tolist() for ids in result.routing] == routing


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), seed=st.integers(0, 1000), skew=st.sampled_from([0.0, 1.0, 3.0]))
def test_the_decoder_agrees_with_the_oracle(precision: str, data: st.DataObject, seed: int, skew: float) -> None:
    shape, batch = data.draw(shapes(precision)), data.draw(batches())
    result = run_decoder(shape, batch, seed, skew)
    exact = oracle(shape, batch, seed, skew, result.routing)
    compare(result.output, exact.output, shape)
    assert all(torch.equal(a, b) for a, b in zip(exact.routing, result.routing, strict=True))


def test_fp32_routes_exactly() -> None:
    shape = small_shape(layers=3, experts=8)
    result, exact = run_decoder(shape, BATCH, 0), oracle(shape, BATCH, 0)
    assert all(torch.equal(a, b) for a, b in zip(exact.routing, result.routing, strict=True))
    assert compare(result.output, exact.output, shape) < 3e-6


def test_all_tokens_on_one_expert_and_all_experts_for_each() -> None:
    for shape in (small_shape(experts=1, top_k=1), small_shape(experts=5, top_k=5)):
        result = run_decoder(shape, BATCH, 2)
        compare(result.output, oracle(shape, BATCH, 2, 0.0, result.routing).output, shape)


def test_a_pass_without_tokens() -> None:
    shape = small_shape()
    result = run_decoder(shape, (), 0)
    exact = oracle(shape, (), 0, 0.0, result.routing)
    assert result.output.shape == exact.output.shape == (0, 32)
    assert compare(result.output, exact.output, shape) == 0.0


def test_runs_are_repeatable() -> None:
    shape = small_shape("bf16")
    first, second = (run_decoder(shape, BATCH, 7, 1.0) for _ in range(2))
    assert torch.equal(first.output, second.output)
    assert not torch.equal(first.output, run_decoder(shape, BATCH, 8, 1.0).output)


Experts = tuple[Routing, list[Tensor], list[Tensor]]


def swap_two_experts(routing: Routing, w13: list[Tensor], w2: list[Tensor]) -> Experts:
    return routing, [w13[1], w13[0], *w13[2:]], w2


def keep_half_of_a_stale_expert(routing: Routing, w13: list[Tensor], w2: list[Tensor]) -> Experts:
    return routing, w13, [*w2[:2], torch.cat((w2[2][:16], w2[3][16:])), w2[3]]


def forget_the_weights(routing: Routing, w13: list[Tensor], w2: list[Tensor]) -> Experts:
    return routing._replace(weights=torch.full_like(routing.weights, 0.5)), w13, w2


def mix_up_tokens(routing: Routing, w13: list[Tensor], w2: list[Tensor]) -> Experts:
    return routing._replace(normed=routing.normed.roll(1, 0)), w13, w2


Scaled = list[Quantised]


def swap_two_scaled_experts(routing: Routing, w13: Scaled, w2: Scaled) -> tuple[Routing, Scaled, Scaled]:
    return routing, [w13[1], w13[0], *w13[2:]], w2


def one_expert_without_scales(routing: Routing, w13: Scaled, w2: Scaled) -> tuple[Routing, Scaled, Scaled]:
    return routing, w13, [w2[0]._replace(scales=torch.ones_like(w2[0].scales)), *w2[1:]]


def one_scale_of_the_wrong_weight(routing: Routing, w13: Scaled, w2: Scaled) -> tuple[Routing, Scaled, Scaled]:
    """Of one output channel, as a byte offset too far would give: w13's first number where w2's scale should be."""
    scales = w2[3].scales.clone()
    scales[5] = w13[3].values[0, 0].float()
    return routing, w13, [*w2[:3], w2[3]._replace(scales=scales)]


def scales_too_large_by_4(routing: Routing, w13: Scaled, w2: Scaled) -> tuple[Routing, Scaled, Scaled]:
    return routing, [w13[0], w13[1]._replace(scales=4 * w13[1].scales), *w13[2:]], w2


FAULTS = [swap_two_experts, keep_half_of_a_stale_expert, forget_the_weights, mix_up_tokens]
SCALED_FAULTS = [
    swap_two_scaled_experts,
    one_expert_without_scales,
    one_scale_of_the_wrong_weight,
    scales_too_large_by_4,
    forget_the_weights,
    mix_up_tokens,
]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize(
    ("fault", "expert_dtype"),
    [*((fault, None) for fault in FAULTS), *((fault, "fp8_channel") for fault in SCALED_FAULTS)],
)
@pytest.mark.parametrize("layers", [1, 3])
def test_planted_faults_are_found(
    fault: Any, expert_dtype: str | None, precision: str, layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = small_shape(precision, layers=layers, expert_dtype=expert_dtype or precision)
    right = decoder.experts
    calls = 0

    def wrong(shape: ModelShape, routing: Routing, w13: Sequence[Tensor], w2: Sequence[Tensor]) -> Tensor:
        nonlocal calls
        calls += 1
        if calls > 1:  # in the first layer only
            return right(shape, routing, w13, w2)
        return right(shape, *fault(routing, list(w13), list(w2)))

    monkeypatch.setattr(decoder, "experts", wrong)
    result = run_decoder(shape, BATCH, 0)
    with pytest.raises(OracleMismatch):
        compare(result.output, oracle(shape, BATCH, 0, 0.0, result.routing).output, shape)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_an_illegitimate_choice_is_refused(precision: str) -> None:
    shape = small_shape(precision, experts=8)
    routing = [ids.clone() for ids in oracle(shape, BATCH, 0).routing]
    worst = oracle(small_shape(precision, experts=8, top_k=8), BATCH, 0).routing[0][5, -1]
    chosen = routing[0][5].tolist()
    routing[0][5, 1] = worst
    with pytest.raises(IllegitimateRouting) as caught:
        oracle(shape, BATCH, 0, 0.0, routing)
    message = str(caught.value)
    assert f"layer 0, token 5: experts {[chosen[0], int(worst)]} were chosen" in message
    assert f"the exact ones are {chosen}" in message
    assert "rounding explains" in message


def test_forcing_the_exact_choice_changes_nothing() -> None:
    shape = small_shape("bf16", layers=3, shared_experts=1)
    free = oracle(shape, BATCH, 1, 1.0)
    forced = oracle(shape, BATCH, 1, 1.0, free.routing)
    assert torch.equal(free.output, forced.output)
    turned = oracle(shape, BATCH, 1, 1.0, [ids.flip(1) for ids in free.routing])
    torch.testing.assert_close(turned.output, free.output, rtol=1e-12, atol=1e-12)


def test_a_near_tie_may_go_either_way() -> None:
    shape = small_shape("bf16", layers=1, experts=8)
    batch = (Chunk(0, 0, 400),)
    in_order = oracle(small_shape("bf16", layers=1, experts=8, top_k=8), batch, 0).routing[0]
    exact, third = in_order[:, :2], in_order[:, [0, 2]]

    def legitimate(token: int) -> bool:
        """Whether this token may go to its third expert instead of its second."""
        routing = exact.clone()
        routing[token] = third[token]
        try:
            oracle(shape, batch, 0, 0.0, [routing])
        except IllegitimateRouting as refusal:
            if f"token {token}:" not in str(refusal):
                raise
            return False
        return True

    verdicts = [legitimate(token) for token in range(100)]
    assert 1 <= sum(verdicts) <= 30


def test_malformed_routing_is_refused() -> None:
    shape = small_shape()
    good = list(oracle(shape, BATCH, 0).routing)
    with pytest.raises(IllegitimateRouting, match="1 layers of routing, but 2"):
        oracle(shape, BATCH, 0, 0.0, good[:1])
    with pytest.raises(IllegitimateRouting, match=r"layer 1: ids have size \(60, 1\), not \(60, 2\)"):
        oracle(shape, BATCH, 0, 0.0, [good[0], good[1][:, :1]])
    for bad in ([3, 3], [-1, 2], [1, 4]):
        changed = good[1].clone()
        changed[17] = torch.tensor(bad)
        with pytest.raises(IllegitimateRouting, match=r"layer 1, token 17: experts .* are not 2 different"):
            oracle(shape, BATCH, 0, 0.0, [good[0], changed])


def test_shapes_for_the_simulator_only_are_refused() -> None:
    for shape in (small_shape(attention=LATENT), small_shape(expert_dtype="nvfp4")):
        with pytest.raises(ScenarioError, match="simulator"):
            oracle(shape, BATCH, 0)
        with pytest.raises(ScenarioError, match="simulator"):
            run_decoder(shape, BATCH, 0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_cuda_agrees_with_the_oracle(precision: str) -> None:
    shape = small_shape(precision, window=7, layers=4, dense_layers=1, dense_intermediate=64, shared_experts=1)
    result = run_decoder(shape, BATCH, 0, 1.0, "cuda")
    assert result.output.device.type == "cuda"
    compare(result.output, oracle(shape, BATCH, 0, 1.0, result.routing).output, shape)
