"""What is shown beside what, in words, and how far the model is from a measurement."""

from __future__ import annotations

import pytest
from machines_for_tests import measured

from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.run import run_sim
from dwdp_lab.timeline.compare import compare
from dwdp_lab.view.control.comparisons import comparison, comparisons
from dwdp_lab.view.control.history import History
from dwdp_lab.view.control.scene import scene, simulated
from dwdp_lab.view.simulated_measured import errors_text, kind_errors

SCENARIO = Scenario.create(model="qwen3-30b-a3b", group={"ranks": 4}, workload={"tokens_per_rank": 8192}).replace(
    **{"model.layers": 2}
)
DEP = SCENARIO.with_strategy("dep")


def test_a_scenario_is_shown_below_what_it_is_compared_with() -> None:
    found = scene(SCENARIO, "strategy:dep", History())
    assert [timeline.strategy for timeline in found.timelines] == ["dep", "dwdp"]
    assert found.words == compare(run_sim(SCENARIO), run_sim(DEP)).words
    assert found.link_gbps == (450, 450)
    assert not found.errors
    assert scene(SCENARIO, "alone", History()).words == "DWDP alone"


def test_a_measured_run_stands_beside_its_partner_its_simulation_or_another_run() -> None:
    history = History()
    dep, dwdp = (history.add(measured(each), each) for each in (DEP, SCENARIO))
    assert scene(dwdp, "strategy:dep", history).timelines == (dep.timeline, dwdp.timeline)
    beside = scene(dwdp, "strategy:replicated", history)
    assert [timeline.provenance for timeline in beside.timelines] == ["simulated", "measured"]
    assert "DWDP (measured)" in beside.words
    own = scene(dwdp, "sim", history)
    assert own.timelines[0].spans == run_sim(SCENARIO).spans
    assert own.words.startswith("DWDP (measured) is 0.50 x DWDP (simulated)")
    assert scene(dwdp, "run:1", history).timelines == (dep.timeline, dwdp.timeline)
    assert {round(error.error_pct or 0) for error in own.errors} == {-50}


def test_only_what_is_possible_is_offered_and_a_wish_finds_the_nearest() -> None:
    history = History()
    run = history.add(measured(SCENARIO), SCENARIO)
    bare = history.add(measured(SCENARIO), None)
    offered = [choice.value for choice in comparisons(SCENARIO, history)]
    assert "strategy:dwdp" not in offered
    assert "sim" not in offered
    assert offered[-2:] == ["run:2", "run:1"]
    assert "sim" in [choice.value for choice in comparisons(run, history)]
    assert [choice.value for choice in comparisons(bare, history)] == ["alone", "run:1"]
    assert comparison("strategy:dep", SCENARIO, history) == "strategy:dep"
    assert comparison("strategy:dep", DEP, history) == "strategy:dwdp"
    assert comparison("strategy:dep", bare, history) == "alone"
    assert comparison("run:9", SCENARIO, history) == "alone"


def test_a_simulation_is_kept_while_only_knobs_turn_that_it_does_not_use() -> None:
    before = simulated(DEP)
    assert simulated(DEP.replace(**{"strategy.slots": 3, "strategy.slice_bytes": 1 << 20})) is before
    assert simulated(DEP.replace(**{"strategy.dep_form": "all_to_all"})) is not before
    dwdp = simulated(SCENARIO)
    assert simulated(SCENARIO.replace(**{"strategy.slots": 3})) is not dwdp
    assert simulated(DEP.replace(**{"workload.cv": 0.3})).spans == run_sim(DEP.replace(**{"workload.cv": 0.3})).spans


def test_errors_of_the_model_are_per_kind_and_only_for_the_same_work() -> None:
    errors = kind_errors(run_sim(SCENARIO), measured(SCENARIO))
    assert [error.label for error in errors] == ["step", "attention", "route", "experts", "pull weights"]
    for error in errors:
        assert error.error_pct == pytest.approx(-50)
    text = errors_text(errors)
    assert text.splitlines()[0].split() == ["simulated", "ms", "measured", "ms", "error"]
    assert len(text.splitlines()) == 6
    assert "-50 %" in text
    with pytest.raises(ValueError, match="simulate the scenario that was measured"):
        kind_errors(run_sim(DEP), measured(SCENARIO))
