"""The chart of measured crossovers: what it draws is what the file holds, and it says where each line crosses."""

from __future__ import annotations

import pytest

from dwdp_lab.measure.all_parts import parts
from dwdp_lab.measure.runs.grid import read_variants, scenarios_of
from dwdp_lab.measure.runs.over_dep import over_best_dep
from dwdp_lab.measure.runs.predicted_runs import predict_runs
from dwdp_lab.measure.runs.recorded_runs import RunsFile
from dwdp_lab.measure.runs.strategies_run import Sitting, simulate_grid
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.hardware import load_hardware
from dwdp_lab.simulate.physics import REALISTIC
from dwdp_lab.view.charts.measured_crossover import measured_crossover

TOKENS = [2048, 8192, 16384, 32768]


def a_file(
    strategies: str = "dep,dwdp", measured: bool = True, ranks: int = 2, cvs: tuple[float, ...] = (0.0, 0.2)
) -> RunsFile:
    """Runs as if they had been measured on an H100, with the profile of an H200 to predict them with."""
    base = Scenario.create(model={"preset": "qwen3-30b-a3b", "layers": 2}, group={"ranks": ranks})
    grid = scenarios_of(base, TOKENS, cvs, read_variants(strategies))
    sitting = Sitting("sim", grid, 1, 0, "Some runs", "a command", load_hardware("h200"))
    file = simulate_grid(sitting, load_hardware("h100"), REALISTIC, lambda _: None)
    return file.model_copy(update={"provenance": "measured", "machine": "cuda"} if measured else {})


def test_a_line_for_each_cv_and_beside_it_what_is_predicted() -> None:
    file = a_file()
    chart = measured_crossover(file)
    assert [curve.label for curve in chart.curves] == ["CV 0", "CV 0, predicted", "CV 0.2", "CV 0.2, predicted"]
    assert [curve.dashed for curve in chart.curves] == [False, True, False, True]
    gains = {
        (one.run.scenario["workload"]["cv"], one.run.scenario["workload"]["tokens_per_rank"]): one.over_dep
        for one in over_best_dep(file.runs)
        if one.label == "dwdp"
    }
    assert chart.curves[2].x == tuple(map(float, TOKENS))
    assert chart.curves[2].y == tuple(gains[0.2, tokens] for tokens in TOKENS)
    predicted = [row.predicted_over_dep for row in predict_runs(file) if row.label == "dwdp"]
    assert chart.curves[1].y == tuple(predicted[::2])
    assert chart.curves[1].y != chart.curves[0].y
    assert chart.limits == (("as fast as DEP", 1.0),)
    assert "CV 0: from about" in chart.words
    assert "predicted: from about" in chart.words
    assert "recorded" in chart.notes[0]


def test_no_crossing_is_drawn_between_points_that_are_far_apart() -> None:
    """At CV 0.2 the H200s had two points, a factor of 4 apart: a line between them crosses too far right."""
    file = a_file(cvs=(0.0,))
    near = measured_crossover(file).words
    far = [run for run in file.runs if run.scenario["workload"]["tokens_per_rank"] in (2048, 32768)]
    words = measured_crossover(file.model_copy(update={"runs": far})).words
    assert "CV 0: from about" in near
    assert "CV 0: between 2,048 and 32,768 tokens, predicted: between 2,048 and 32,768 tokens" in words


def test_lines_are_told_apart_by_what_differs() -> None:
    chart = measured_crossover(a_file("dep,dwdp,dwdp:overlap=false", measured=False))
    assert [curve.label for curve in chart.curves] == [
        "DWDP, CV 0",
        "DWDP overlap=False, CV 0",
        "DWDP, CV 0.2",
        "DWDP overlap=False, CV 0.2",
    ]
    assert chart.notes[0].startswith("simulated")
    assert "DWDP overlap=False, CV 0: nowhere from 2,048 to 32,768" in chart.words


def test_the_lines_of_bench_all_have_a_colour_each_and_no_word_that_all_have() -> None:
    (words,) = (part.words for part in parts("cuda", 4) if part.name == "grid")
    asked = {option: words[words.index(option) + 1] for option in ("--strategies", "--cv")}
    cvs = tuple(map(float, asked["--cv"].split(",")))
    chart = measured_crossover(a_file(asked["--strategies"], ranks=4, cvs=cvs))
    lines = [curve for curve in chart.curves if not curve.dashed]
    assert len({curve.colour for curve in lines}) == len(lines) == 9
    assert [curve.label for curve in lines[:3]] == [
        "DWDP, CV 0",
        "DWDP slice_bytes=4194304 peer_order=interleaved, CV 0",
        "DWDP local_experts=64, CV 0",
    ]


def test_without_dep_there_is_nothing_to_draw() -> None:
    with pytest.raises(ScenarioError, match="needs runs of dwdp and of dep"):
        measured_crossover(a_file("replicated,dwdp"))
