"""Steps that last: what takes longer then, by how much, and what does not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from any_scenario import scenarios
from at_limit import USUAL, knows_lasting
from hypothesis import given, settings
from hypothesis import strategies as st

from dwdp_lab.program.build import build
from dwdp_lab.program.operation import Kind
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.cost import CostModel
from dwdp_lab.simulate.hardware import Hardware, load_hardware
from dwdp_lab.simulate.physics import BOUND, LASTING, REALISTIC, Physics, physics_named
from dwdp_lab.simulate.predict import physics_for, predict
from dwdp_lab.simulate.run import run_sim

H200 = load_hardware("h200")
CALM = {"hbm_traffic": False, "power": False, "collective_sms": False}
FACTORS = st.dictionaries(st.sampled_from(["attention", "dense", "route", "experts", "merge"]), st.floats(1.0, 2.0))


def end_us(scenario: Scenario, hardware: Hardware, physics: Physics) -> float:
    return max((span.end_us for span in run_sim(scenario, hardware=hardware, physics=physics).spans), default=0.0)


@settings(deadline=None, max_examples=60)
@given(scenarios(), FACTORS, st.none() | st.floats(1.0, 1.5))
def test_steps_that_last_are_never_shorter(
    scenario: Scenario, compute: dict[Kind, float], copies: float | None
) -> None:
    """Nor is any operation; where nobody shares a link, for then who meets whom decides."""
    hardware = knows_lasting(H200, compute, copies)
    alone = replace(LASTING, shared_links=False)
    cool = replace(alone, lasting=False)
    assert end_us(scenario, hardware, alone) >= end_us(scenario, hardware, cool) * (1 - 1e-9)
    usual, longer = (CostModel.of(hardware, None, physics) for physics in (cool, alone))
    for op in build(scenario)[0].ops:
        for one, other in zip(usual.pieces(op.work, op.kind), longer.pieces(op.work, op.kind), strict=True):
            assert other.alone_us >= one.alone_us
            assert other.slowdown >= one.slowdown


@settings(deadline=None, max_examples=40)
@given(scenarios())
def test_factors_of_one_change_nothing(scenario: Scenario) -> None:
    hardware = knows_lasting(H200, dict.fromkeys(USUAL, 1.0), 1.0)
    timelines = [run_sim(scenario, hardware=hardware, physics=physics) for physics in (REALISTIC, LASTING)]
    assert timelines[0].spans == timelines[1].spans
    assert "physics: lasting" in timelines[1].notes


@settings(deadline=None, max_examples=40)
@given(scenarios(), st.sampled_from([BOUND, replace(REALISTIC, **CALM)]))
def test_each_kind_takes_as_many_times_as_long_as_its_factor_says_and_what_moves_no_longer(
    scenario: Scenario, physics: Physics
) -> None:
    hardware = knows_lasting(H200)
    cool, lasting = (
        {
            (span.rank, span.kind, span.lane, span.step, span.layer): span
            for span in run_sim(scenario, hardware=hardware, physics=one).spans
            if span.kind in USUAL or span.kind in ("dispatch", "combine", "gather_weights", "dense", "merge")
        }
        for one in (physics, replace(physics, lasting=True))
    )
    assert cool.keys() == lasting.keys()
    if scenario.strategy.micro_batches > 1 and scenario.strategy.name == "pipeline":
        return  # several operations in one place
    for place, span in cool.items():
        least = 1.0 if place[1] in ("dispatch", "combine", "gather_weights") else min(USUAL.values())
        expected = USUAL.get(place[1], least) * span.duration_us  # type: ignore[call-overload]
        assert lasting[place].duration_us == pytest.approx(expected, rel=1e-6, abs=1e-6)


@settings(deadline=None)
@given(st.floats(1e-3, 3.0), st.booleans())
def test_what_copies_take_more_goes_by_the_links_speed_and_with_power_alone(share: float, power: bool) -> None:
    hardware = knows_lasting(H200, copies=1.25)
    link = share * hardware.link_gbps.value
    work = build(Scenario.create(model="qwen3-30b-a3b", strategy={"name": "replicated"}))[0].ops[0].work
    physics = replace(REALISTIC, power=power)
    cool, lasting = (CostModel.of(hardware, link, replace(physics, lasting=on)).pieces(work) for on in (False, True))
    assert {piece.unit for piece in cool} >= {"gemm", "attention", "activations"}
    for one, other in zip(cool, lasting, strict=True):
        expected = 1.0 / (1.0 - 0.2 * min(1.0, share)) if power else 1.0
        assert other.slowdown / one.slowdown == pytest.approx(expected)


def test_pulls_beside_compute_cost_more_in_steps_that_last() -> None:
    scenario = Scenario.create(
        model={"preset": "qwen3-30b-a3b", "layers": 8},
        workload={"tokens_per_rank": 16384, "cv": 0.0, "steps": 2},
    )
    nothing = knows_lasting(H200, {}, 1.04)

    def longer(strategy: str) -> float:
        one = scenario.with_strategy(strategy)  # type: ignore[arg-type]
        return end_us(one, nothing, LASTING) / end_us(one, nothing, REALISTIC)

    assert longer("replicated") == 1.0
    assert 1.01 < longer("dwdp") < 1.04


@pytest.mark.parametrize(("profile", "of"), [("laptop", "what the machine reaches"), ("h100", "steps that last")])
@pytest.mark.parametrize("physics", [LASTING, Physics(lasting=True)])
def test_a_profile_that_says_nothing_of_steps_that_last_has_none(profile: str, of: str, physics: Physics) -> None:
    with pytest.raises(ScenarioError, match=rf"^hardware = '{profile}': .*nothing of {of}.*calibrate this machine"):
        run_sim(Scenario.create(), hardware=load_hardware(profile), physics=physics)


def test_lasting_has_a_name_and_is_nobodys_default() -> None:
    assert physics_named("lasting") == LASTING == replace(REALISTIC, lasting=True)
    assert physics_named("realistic,lasting=on") == LASTING
    assert (str(LASTING), str(replace(LASTING, power=False))) == ("lasting", "lasting,power=off")
    assert str(Physics(lasting=True)) == "bound,lasting=on"
    assert physics_for(knows_lasting(H200)) == REALISTIC


@pytest.mark.parametrize("field", ["compute.experts", "copies"])
def test_a_factor_below_one_is_refused(field: str, tmp_path: Path) -> None:
    profile = knows_lasting(H200).model_dump(mode="json", exclude_none=True)
    number = profile["reached"]["lasting"]
    for name in field.split("."):
        number = number[name]
    file = tmp_path / "profile.json"
    file.write_text(json.dumps(profile))
    assert load_hardware(str(file)) == knows_lasting(H200)
    number["value"] = 0.99
    file.write_text(json.dumps(profile))
    with pytest.raises(ScenarioError, match=rf"hardware\.reached\.lasting\.{field} = 0\.99: must be at least 1"):
        load_hardware(str(file))


def test_a_prediction_tells_of_steps_that_last_where_nobody_said_which_it_is_of() -> None:
    scenario = Scenario.create(model="tiny", workload={"steps": 1})
    usual = predict(scenario, knows_lasting(H200), sizes=(2,))
    note = usual.provenance["lasting"]
    assert "after 75 ms of full load this machine takes up to 19 % longer" in note
    assert "--physics lasting" in note
    assert usual.to_dict()["details"]["provenance"]["lasting"] == note
    for profile, physics in (
        (knows_lasting(H200), REALISTIC),
        (knows_lasting(H200), replace(REALISTIC, power=False)),
        (knows_lasting(H200, {"experts": 1.004}), None),
        (knows_lasting(H200, {}, copies=1.04), None),
        (H200, None),
    ):
        told = predict(scenario, profile, sizes=(2,), physics=physics).provenance
        assert "lasting" not in told
    lasting = predict(scenario, knows_lasting(H200), sizes=(2,), physics=LASTING)
    assert "physics lasting, profile h200" in lasting.provenance["strategies"]
    assert "may stay below" in lasting.provenance["lasting"]
    assert "cool" not in lasting.provenance["lasting"]
    assert lasting.strategies["replicated"].step_ms > usual.strategies["replicated"].step_ms


def test_no_step_is_called_cool_in_silence_that_takes_longer_than_a_gpu_stays_cool() -> None:
    scenario = Scenario.create(model="tiny", workload={"steps": 1})
    shortest = min(one.step_ms for one in predict(scenario, knows_lasting(H200), sizes=(2,)).strategies.values())
    for after_ms, longer in ((0.9 * shortest, True), (1.1 * shortest, False)):
        profile = knows_lasting(H200, {"attention": 1.25, "experts": 1.5}, after_ms=after_ms)
        note = predict(scenario, profile, sizes=(2,)).provenance["lasting"]
        assert "takes up to 50 % longer to compute" in note
        assert ("ms of full load, less than any of these steps takes, this machine" in note) is longer


def test_factors_measured_at_the_limit_flatter_dwdp_where_its_pulls_are_exposed() -> None:
    """What the note on steps that last warns of: DEP's computation is longer, and DWDP's is beside pulls anyway."""
    scenario = Scenario.create(
        model={"preset": "qwen3-30b-a3b", "layers": 8},
        group={"ranks": 2},
        workload={"tokens_per_rank": 2048, "cv": 0.0, "isl_tokens": 256},
    )
    dep, dwdp = (
        end_us(one, knows_lasting(H200), LASTING) / end_us(one, knows_lasting(H200), REALISTIC)
        for one in (scenario.with_strategy("dep"), scenario.with_strategy("dwdp"))
    )
    assert dep > 1.05 > dwdp
