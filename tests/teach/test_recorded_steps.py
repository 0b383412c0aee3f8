"""What notebook 08 shows of steps on two GPUs: every recorded number, and the simulator's beside it."""

from __future__ import annotations

import pytest

from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.physics import REALISTIC
from dwdp_lab.simulate.run import run_sim
from dwdp_lab.teach.recorded import recorded
from dwdp_lab.teach.recorded_steps import STEPS, recorded_steps
from dwdp_lab.timeline.metrics import metrics
from dwdp_lab.view.charts.chart import Chart


def test_every_recorded_step_stands_beside_its_simulation() -> None:
    steps = recorded(STEPS)["steps"]
    shown = recorded_steps()
    lines = repr(shown).splitlines()
    assert lines[0].startswith("recorded 2026-")
    rows = lines[-sum(len(group["runs"]) for group in steps["tables"]) :]
    runs = [(group["cv"], run) for group in steps["tables"] for run in group["runs"]]
    for line, (cv, run) in zip(rows, runs, strict=True):
        cells = line.removeprefix(run["strategy"]).split()
        assert cells[:3] == [f"{cv:g}", f"{run['step_ms']:.2f}", f"{run['over_replicated']:.3f}"]
        simulated, error = float(cells[3]), float(cells[5])
        assert error == pytest.approx(100 * (simulated / run["step_ms"] - 1), abs=0.1)
    (picture,) = shown.pictures
    assert isinstance(picture, Chart)
    assert [bars.label for bars in picture.bars] == ["measured", "simulated"]
    assert "replicated" not in picture.categories


def test_a_record_of_one_s_own() -> None:
    scenario = {"model": "tiny", "group": {"ranks": 2}, "hardware": "h200", "workload": {"tokens_per_rank": 64}}
    runs = [
        {"strategy": "replicated", "knobs": {"name": "replicated"}, "step_ms": 2.0, "over_replicated": 1.0},
        {"strategy": "late", "knobs": {"overlap": False}, "step_ms": 3.0, "over_replicated": 1.5},
    ]
    record = {"steps": {"what": "made up", "scenario": scenario, "tables": [{"cv": 0.3, "runs": runs}]}}
    shown = recorded_steps(record)
    work = Scenario.create(scenario).replace(**{"workload.cv": 0.3, "strategy.overlap": False})
    expected_ms = metrics(run_sim(work, physics=REALISTIC)).step_ms
    assert repr(shown).splitlines()[-1].split()[:5] == ["late", "0.3", "3.00", "1.500", f"{expected_ms:.2f}"]
