"""Knobs without widgets: what they offer, what a wish comes to, and that they lose nothing of a scenario."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from any_scenario import scenarios
from at_limit import knows_lasting
from hypothesis import given, settings
from hypothesis import strategies as st

from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.hardware import load_hardware
from dwdp_lab.simulate.physics import REALISTIC, SWITCHES, physics_named
from dwdp_lab.simulate.run import run_sim
from dwdp_lab.timeline.span import Span, Timeline
from dwdp_lab.view.control.applies import hidden, reason
from dwdp_lab.view.control.choices import choices, value
from dwdp_lab.view.control.knobs import KNOBS, scenario_of, values
from dwdp_lab.view.control.settings import Settings, knob_of


def what_takes_time(timeline: Timeline) -> list[Span]:
    return sorted(span for span in timeline.spans if span.duration_us > 0)


def fewest_spelled_out(scenario: Scenario) -> Scenario:
    return scenario.replace(**{"group.local_experts": scenario.local_experts})


@settings(deadline=None, max_examples=150)
@given(scenarios(), st.sampled_from(["sim", "cpu"]))
def test_a_scenario_is_still_the_same_after_it_went_through_the_knobs(scenario: Scenario, machine: str) -> None:
    again = scenario_of(Settings.of(scenario, machine))
    assert fewest_spelled_out(again) == fewest_spelled_out(scenario)


@pytest.mark.parametrize(
    "fields",
    [
        {"workload": {"kind": "trace", "requests": 8, "skip": 2, "divide_by": 4, "assign": "least_loaded"}},
        {"workload": {"kind": "isl", "isl_ratio": 0.33, "prefix_hit": 0.125, "isl_std_tokens": 7.5}},
        {"link_gbps": math.inf, "hardware": "gb200", "strategy": {"slice_bytes": 5000, "slots": 3}},
        {"model": {"preset": "qwen3-30b-a3b", "layers": 5}, "group": {"ranks": 7, "local_experts": 21}},
    ],
)
def test_what_no_knob_shows_stays(fields: dict[str, object]) -> None:
    scenario = Scenario.create(fields)
    assert scenario_of(Settings.of(scenario)) == scenario


def test_every_knob_offers_what_it_stands_at() -> None:
    for kind in ("cv", "isl", "trace"):
        now = Settings.of(Scenario.create(workload={"kind": kind}))
        for name in KNOBS:
            offered = choices(now, name)
            assert not offered or value(now, name) in [choice.value for choice in offered], name
            assert len({choice.label for choice in offered}) == len(offered), name


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_every_choice_of_every_knob_gives_a_scenario(data: st.DataObject) -> None:
    now = Settings()
    now.set("machine", data.draw(st.sampled_from(["sim", "cpu"])))
    for name in data.draw(st.lists(st.sampled_from(sorted(KNOBS)), max_size=8)):
        offered = choices(now, name)
        if offered:
            now.set(name, data.draw(st.sampled_from([choice.value for choice in offered])))
    assert scenario_of(now).ranks == value(now, "ranks")


def test_a_wish_that_is_not_possible_now_comes_back_when_it_is() -> None:
    now = Settings()
    now.set("ranks", 2)
    now.set("local", 100)
    assert value(now, "local") == 100
    now.set("ranks", 1)
    assert value(now, "local") is None  # the fewest are all
    now.set("ranks", 2)
    assert scenario_of(now).local_experts == 100
    now.set("slots", 3)
    now.set("distance", 3)
    now.set("slots", 1)
    assert scenario_of(now).strategy.prefetch_distance == 1
    now.set("slots", 3)
    assert scenario_of(now).strategy.prefetch_distance == 3


def test_ranks_and_simulator_have_sizes_of_their_own() -> None:
    now = Settings()
    now.set("tokens", 32768)
    now.set("machine", "cpu")
    assert scenario_of(now).model.name == "tiny"
    assert value(now, "tokens") != 32768
    now.set("cv", 0.3)
    now.set("machine", "sim")
    assert (value(now, "tokens"), value(now, "cv")) == (32768, 0.3)


def test_knobs_of_other_workloads_are_hidden() -> None:
    now = Settings()
    shown = {name for name in KNOBS if not hidden(now, name)}
    assert {"tokens", "cv"} <= shown
    assert not {"file", "ratio", "mnt"} & shown
    now.set("workload", "trace")
    shown = {name for name in KNOBS if not hidden(now, name)}
    assert {"file", "mnt", "assign", "skew"} <= shown
    assert not {"tokens", "cv", "prefix"} & shown


def test_knobs_of_gpu_ranks_are_shown_there_alone_and_lose_nothing_elsewhere() -> None:
    now = Settings.of(Scenario.create(strategy={"name": "dep", "collectives": "nccl", "copy_calls": "plain"}))
    assert hidden(now, "meet")
    assert hidden(now, "calls")
    kept = scenario_of(now).strategy
    assert (kept.collectives, kept.copy_calls) == ("nccl", "plain")
    now.set("machine", "cuda")
    assert not hidden(now, "meet")
    assert not reason(now, "meet")
    assert reason(now, "calls") == "DEP pulls nothing"
    now.set("strategy", "dwdp")
    assert reason(now, "meet") == "DWDP never meets"
    assert not reason(now, "calls")
    assert knob_of(ScenarioError("strategy.collectives", "nccl", "is not")) == "meet"


def test_knobs_without_effect_say_why() -> None:
    now = Settings()
    assert reason(now, "dep_form") == "DWDP sends no tokens to experts"
    now.compared = "replicated"
    assert reason(now, "dep_form") == "neither DWDP nor replicated sends tokens to experts"
    now.compared = None
    assert not reason(now, "slots")
    now.set("strategy", "dep")
    assert reason(now, "slots") == "DEP fetches no weights"
    assert not reason(now, "dep_form")
    now.compared = "dwdp"
    assert not reason(now, "slots")  # it moves the run that is compared with
    now.set("overlap", False)
    assert "without overlap" in reason(now, "distance")
    now.set("machine", "cuda")
    assert "own speed" in reason(now, "link")
    now.set("machine", "sim")
    now.set("ranks", 1)
    assert {reason(now, name) for name in ("overlap", "order", "dep_form", "link")} == {"one rank has no peers"}


@settings(deadline=None, max_examples=80)
@given(scenarios())
def test_a_greyed_knob_changes_no_simulation(scenario: Scenario) -> None:
    now = Settings.of(scenario)
    for name in (
        "overlap",
        "slots",
        "distance",
        "cross_step",
        "order",
        "slice",
        "view",
        "dep_form",
        "dep_rows",
        "micro",
        "link",
    ):
        if not reason(now, name):
            continue
        other = Settings.of(scenario)
        offered = [choice.value for choice in choices(other, name)] or [True, False]
        other.set(name, next(each for each in offered if each != value(now, name)) if len(offered) > 1 else offered[0])
        runs = (what_takes_time(run_sim(scenario_of(settings))) for settings in (other, now))
        for turned, left in zip(*runs, strict=True):
            assert turned[:5] == left[:5], name
            assert turned[5:] == pytest.approx(left[5:], rel=1e-9), name  # the same bytes in other portions round apart


def test_errors_are_shown_at_their_knob() -> None:
    wrong = Settings()
    wrong.set("workload", "trace")
    wrong.set("file", "no-such-file.csv")
    with pytest.raises(ScenarioError) as caught:
        _ = scenario_of(wrong).batches
    assert knob_of(caught.value) == "file"
    for field, knob in (
        ("strategy.prefetch_distance", "distance"),
        ("group.ranks", "ranks"),
        ("workload.cv", "cv"),
        ("hardware", "hardware"),
        ("model.attention.heads", "model"),
        ("workload.lengths", "workload"),
        ("elsewhere", None),
    ):
        assert knob_of(ScenarioError(field, 1, "is not")) == knob


def test_a_knob_that_does_not_exist_is_refused() -> None:
    with pytest.raises(KeyError, match=r"'cvv' is no knob; knobs are .*cv"):
        Settings().set("cvv", 1)
    assert set(values(Settings())) == set(KNOBS)


def test_physics_are_all_effects_or_all_but_one_and_steps_that_last_where_the_profile_knows_them(
    tmp_path: Path,
) -> None:
    settings = Settings.of(Scenario.create(hardware="h200"))
    offered = [choice.value for choice in choices(settings, "physics")]
    without = [one for one in offered if "=off" in one]
    assert offered == ["bound", "realistic", *without]
    assert {physics_named(one) for one in without} == {
        replace(REALISTIC, **{switch: False}) for switch in SWITCHES if switch != "lasting"
    }
    file = tmp_path / "profile.json"
    file.write_text(knows_lasting(load_hardware("h200")).model_dump_json(exclude_none=True))
    knows = Settings.of(Scenario.create(hardware=str(file)))
    assert [choice.value for choice in choices(knows, "physics")] == ["bound", "realistic", "lasting", *without]
    missing = Settings.of(Scenario.create(hardware=str(tmp_path / "none.json")))
    assert [choice.value for choice in choices(missing, "physics")] == offered


def test_physics_of_steps_that_last_are_all_effects_where_the_profile_does_not_know_them(tmp_path: Path) -> None:
    """Not the data sheet's limit, which is what is offered first."""
    file = tmp_path / "profile.json"
    file.write_text(knows_lasting(load_hardware("h200")).model_dump_json(exclude_none=True))
    now = Settings.of(Scenario.create(hardware=str(file)))
    now.set("physics", "lasting")
    assert value(now, "physics") == "lasting"
    now.set("hardware", "h100")
    assert value(now, "physics") == "realistic"
    now.set("hardware", str(file))
    assert value(now, "physics") == "lasting"
