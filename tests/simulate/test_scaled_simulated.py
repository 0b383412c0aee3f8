"""What experts in e4m3 with a scale per output channel change in virtual time."""

from __future__ import annotations

import pytest

from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.hardware import load_hardware
from dwdp_lab.simulate.physics import BOUND, REALISTIC, Physics
from dwdp_lab.simulate.run import run_sim
from dwdp_lab.timeline.metrics import metrics
from dwdp_lab.timeline.span import Timeline


def scenario(expert_dtype: str, tokens: int = 16384) -> Scenario:
    return Scenario.create(
        model={"preset": "qwen3-30b-a3b", "layers": 4, "expert_dtype": expert_dtype},
        group={"ranks": 2},
        workload={"tokens_per_rank": tokens, "cv": 0.0, "isl_tokens": 4096},
        hardware="h200",
    )


def simulated(expert_dtype: str, tokens: int = 16384, physics: Physics = BOUND) -> Timeline:
    return run_sim(scenario(expert_dtype, tokens), physics=physics)


def kinds(timeline: Timeline, kind: str) -> list[float]:
    return [span.duration_us for span in timeline.spans if span.kind == kind]


def test_pulls_take_half_the_time() -> None:
    plain, scaled = (kinds(simulated(each), "pull") for each in ("bf16", "fp8_channel"))
    assert plain
    for before, after in zip(plain, scaled, strict=True):
        assert after / before == pytest.approx(4_732_928 / (2 * 3 * 2048 * 768), rel=1e-6)


def test_experts_are_multiplied_at_the_profile_s_fp8_rate() -> None:
    rates = load_hardware("h200").tflops
    plain, scaled = (kinds(simulated(each), "experts") for each in ("bf16", "fp8_channel"))
    assert scaled[0] / plain[0] == pytest.approx(rates["bf16"].value / rates["fp8"].value, rel=1e-6)


def test_quantising_takes_time_where_activations_count() -> None:
    formats = ("fp8", "fp8_channel")
    blocks, scaled = (kinds(simulated(each, physics=REALISTIC), "experts") for each in formats)
    assert all(after > before for before, after in zip(blocks, scaled, strict=True))


def test_dwdp_pays_from_fewer_tokens_on() -> None:
    exposed = [metrics(simulated(each, tokens=4096)).exposed_copy_ms for each in ("bf16", "fp8_channel")]
    assert exposed[1] < exposed[0]


def test_a_profile_without_fp8_says_so() -> None:
    h200 = load_hardware("h200")
    older = h200.model_copy(update={"tflops": {"bf16": h200.tflops["bf16"]}})
    with pytest.raises(ScenarioError, match="has no rate for fp8; it knows bf16"):
        run_sim(scenario("fp8_channel"), hardware=older)
