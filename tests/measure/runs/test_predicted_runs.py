"""Predicted against measured: errors, signs, and how a machine takes what a scenario says of its link."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from at_limit import knows_lasting
from hypothesis import given, settings
from hypothesis import strategies as st

from dwdp_lab.measure.runs.figures import Figures
from dwdp_lab.measure.runs.grid import read_variants, scenarios_of
from dwdp_lab.measure.runs.predicted_runs import as_on_machine, errors_of, predict_runs, predicted_figures
from dwdp_lab.measure.runs.recorded_runs import Run, RunsFile
from dwdp_lab.measure.runs.strategies_run import Sitting, simulate_grid
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.hardware import Hardware, load_hardware
from dwdp_lab.simulate.physics import BOUND, LASTING, REALISTIC
from dwdp_lab.simulate.run import run_sim
from dwdp_lab.view.charts.predicted_measured import predicted_measured

H100 = load_hardware("h100")
BASE = Scenario.create(model={"preset": "qwen3-30b-a3b", "layers": 3})


@cache
def measured(hardware: Hardware | None = H100) -> RunsFile:
    """Runs of the simulator that pass for a GPU's."""
    grid = scenarios_of(BASE, [256, 8192], [0.0, 0.3], read_variants("replicated,dep,dwdp,dwdp:weight_view=merged"))
    sitting = Sitting("sim", grid, 1, 0, "Simulated", "dwdp-lab bench strategies", hardware)
    file = simulate_grid(sitting, H100, REALISTIC, lambda _: None)
    return file.model_copy(update={"machine": "cuda"})


def test_the_machines_own_profile_predicts_its_runs_exactly() -> None:
    file = measured()
    rows = predict_runs(file)
    errors = errors_of(rows)
    assert (errors.runs, errors.median, errors.worst) == (20, 0.0, 0.0)
    assert errors.signs == errors.signs_right > 4
    assert all(row.measured_over_dep == row.predicted_over_dep for row in rows)


def test_errors_are_relative_to_what_was_measured() -> None:
    file = measured()

    def slower(run: Run, factor: float) -> Run:
        step = run.repeats[0]
        changed = {"step_ms": step.step_ms * factor, "tokens_per_s": step.tokens_per_s / factor}
        return run.model_copy(update={"repeats": [step.model_copy(update=changed)]})

    runs = [slower(run, 2.0 if number == 5 else 1.25) for number, run in enumerate(file.runs)]
    rows = predict_runs(file.model_copy(update={"runs": runs}))
    errors = errors_of(rows)
    assert errors.median == pytest.approx(0.2)
    assert errors.worst == pytest.approx(-0.5)
    assert errors.worst_at == rows[5].label
    assert (errors.spread, errors.spread_words) == (None, "no run was repeated")
    twice = runs[0].model_copy(update={"repeats": [file.runs[0].repeats[0], runs[0].repeats[0]]})
    rows = predict_runs(file.model_copy(update={"runs": [twice, *runs[1:]]}))
    assert [row.spread for row in rows] == [pytest.approx(0.25), *[None] * 19]
    assert errors_of(rows).spread == pytest.approx(0.25), "runs that were not repeated say nothing of it"
    assert errors_of(rows).spread_words == "repeats of a run differ by 25.0 %"


def test_a_wrong_sign_is_counted_where_the_measured_ratio_tells() -> None:
    file = measured()
    fast = H100.model_copy(update={"link_gbps": H100.link_gbps.model_copy(update={"value": 1e6})})
    rows = predict_runs(file, fast)
    wrong = [row for row in rows if row.tells and not row.right]
    assert wrong
    for row in wrong:
        ratios = (row.measured_over_dep or 0.0, row.predicted_over_dep or 0.0)
        assert min(ratios) <= 1.0 < max(ratios)
        assert abs(ratios[0] - 1.0) > 0.03
    errors = errors_of(rows)
    assert errors.signs - errors.signs_right == len(wrong)
    assert not any(row.tells for row in rows if row.label.startswith("dep"))
    close = replace(rows[0], measured_over_dep=1.02)
    assert not close.tells


def test_runs_without_a_profile_need_one() -> None:
    file = measured(None)
    with pytest.raises(ScenarioError, match="--hardware"):
        predict_runs(file)
    assert errors_of(predict_runs(file, H100)).worst == 0.0


@pytest.mark.parametrize("strategy", ["replicated", "dep", "weight_gather", "dwdp"])
def test_cpu_ranks_pace_pulls_and_nothing_else(strategy: str) -> None:
    file = measured().model_copy(update={"machine": "cpu"})
    paced = BASE.replace(**{"strategy.name": strategy, "link_gbps": 0.5})
    scenario, profile, physics = as_on_machine(file, paced, H100)
    assert profile.reached is not None
    if strategy in ("dep", "weight_gather"):
        assert (scenario.link_gbps, profile, physics) == (None, H100, REALISTIC)
    else:
        assert scenario.link_gbps == 0.5
        assert profile.reached.copy_us is None
        assert not physics.interference
    faster = paced.replace(link_gbps=1e4)  # than memory: they cannot
    assert as_on_machine(file, faster, H100)[0].link_gbps is None
    assert as_on_machine(measured(), paced, H100) == (paced, H100, REALISTIC)  # a GPU's link is what it is


LASTING_STEPS = st.tuples(
    st.sampled_from(["replicated", "dep", "dwdp"]), st.sampled_from([256, 8192]), st.integers(1, 40)
)


@settings(deadline=None, max_examples=25)
@given(LASTING_STEPS, st.floats(1.0, 200.0))
def test_a_gpus_run_is_cool_for_as_long_as_the_profile_says_and_then_lasts(
    which: tuple[str, int, int], after_ms: float
) -> None:
    strategy, tokens, steps = which
    scenario = BASE.replace(
        **{"strategy.name": strategy, "workload.tokens_per_rank": tokens, "workload.steps": steps, "workload.cv": 0.0}
    )
    profile = knows_lasting(H100, after_ms=after_ms)
    cool, lasting = (Figures.of(run_sim(scenario, hardware=profile, physics=one)) for one in (REALISTIC, LASTING))
    found = predicted_figures(measured(), scenario, profile)
    assert cool.step_ms < lasting.step_ms
    if cool.step_ms * steps <= after_ms:
        assert found == cool
    else:
        rest_ms = cool.step_ms * steps - after_ms
        expected_ms = after_ms + rest_ms * lasting.step_ms / cool.step_ms
        assert found.step_ms == pytest.approx(expected_ms / steps)
        assert cool.step_ms < found.step_ms < lasting.step_ms
        assert lasting.tokens_per_s < found.tokens_per_s < cool.tokens_per_s
    for file, hardware in (
        (measured().model_copy(update={"machine": "cpu"}), profile),
        (measured().model_copy(update={"machine": "sim"}), profile),
        (measured(), H100),
    ):
        assert predicted_figures(file, scenario, hardware) == cool


def test_a_gpus_run_is_predicted_by_a_data_sheet_too() -> None:
    found = predicted_figures(measured(), BASE, load_hardware("mi300x"))
    assert found == Figures.of(run_sim(BASE, hardware=load_hardware("mi300x"), physics=BOUND))


def test_a_profile_that_knows_of_steps_that_last_predicts_longer_runs() -> None:
    file = measured()
    usual, longer = predict_runs(file), predict_runs(file, knows_lasting(H100, after_ms=1.0))
    assert [row.error for row in usual] == [0.0] * 20
    assert all(0.0 < row.error < 0.19 for row in longer if row.run.figures.step_ms > 1.0)


def test_the_chart_shows_every_run_and_says_how_good_it_is() -> None:
    file = measured()
    chart = predicted_measured([(file, predict_runs(file))])
    points = [curve for curve in chart.curves if not curve.line]
    assert sorted(curve.label for curve in points) == ["DEP", "DWDP", "replicated"]
    assert sum(len(curve.x) for curve in points) == 20
    assert "median error of 0.0 %" in chart.words
    assert chart.notes[0].startswith("measured: recorded")
    assert "Predicted over measured" in chart.svg()
    assert all(name in chart.svg() for name in ("DEP", "DWDP", "exact"))
    assert len(chart.figure().data) == len(chart.curves)
