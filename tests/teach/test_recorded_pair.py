"""What notebook 08 shows of two GPUs: DWDP over DEP, and what pulls cost."""

from __future__ import annotations

import pytest

from dwdp_lab.measure.runs.figures import Figures
from dwdp_lab.measure.runs.recorded_runs import Run, RunsFile, read_runs
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.teach.recorded_pair import (
    DISTANCE,
    HALF,
    IMBALANCE,
    TOKENS,
    recorded_bytes,
    recorded_crossover,
    recorded_distance,
    recorded_interference,
)


def test_the_crossover_has_a_line_for_each_cv_and_its_prediction() -> None:
    chart = recorded_crossover()
    assert [curve.label for curve in chart.curves] == [
        label for cv in ("0", "0.2", "0.4") for label in (f"CV {cv}", f"CV {cv}, predicted")
    ]
    measured = dict(zip(chart.curves[0].x, chart.curves[0].y, strict=True))
    row = next(row for row in read_runs(TOKENS).summary if row.strategy.startswith("dwdp") and row.tokens == 8192)
    assert measured[8192.0] == pytest.approx(row.over_best_dep)
    assert chart.notes[0].startswith("recorded 2026-")


@pytest.mark.parametrize("name", [TOKENS, IMBALANCE, HALF, DISTANCE])
def test_dwdp_computed_what_replicated_did(name: str) -> None:
    rows = [row for row in read_runs(name).summary if row.strategy.startswith("dwdp")]
    assert rows
    assert all(row.same_bits for row in rows)


def test_half_the_bytes_stand_beside_all_of_them() -> None:
    last = repr(recorded_bytes()).splitlines()[-1].split()
    assert last[0] == "32,768"
    for column, name, field in ((1, TOKENS, "over_best_dep"), (4, HALF, "step_over_replicated")):
        (row,) = (r for r in read_runs(name).summary if r.strategy.startswith("dwdp") and r.tokens == 32768)
        assert float(last[column]) == pytest.approx(getattr(row, field), abs=6e-4)


def test_pulls_that_start_late_stand_below_those_that_start_early() -> None:
    shown = repr(recorded_distance()).splitlines()
    rows = [line.split() for line in shown[4:16]]
    assert [row[1] for row in rows] == ["attention", "experts", "experts"] * 4
    assert [row[2:4] for row in rows] == [["a", "share"], ["a", "share"], ["4", "MiB"]] * 4
    expected = {row.strategy: row for row in read_runs(DISTANCE).summary if row.tokens == 16384}
    dwdp = [row for name, row in expected.items() if name.startswith("dwdp")]
    found = [(float(row[4]), float(row[5])) for row in rows if row[0] == "16,384"]
    assert found == [pytest.approx((row.over_best_dep, row.step_over_replicated), abs=6e-4) for row in dwdp]
    clocks = {row[0]: [float(mhz) for mhz in row[1:]] for row in map(str.split, shown[-4:])}
    gpus = [run.figures.gpu for run in read_runs(DISTANCE).runs if run.scenario["workload"]["tokens_per_rank"] == 16384]
    assert clocks["16,384"] == [pytest.approx(gpu.sm_mhz, abs=0.5) for gpu in gpus[:3] if gpu is not None]


def figures(step_ms: float, attention_ms: float) -> Figures:
    return Figures(
        step_ms=step_ms,
        compute_ms=step_ms,
        communication_ms=0.0,
        exposed_copy_ms=step_ms / 10,
        wait_on_peers_ms=0.0,
        idle_ms=0.0,
        overlap_pct=90.0,
        tokens_per_s=1.0,
        kind_ms={"attention": attention_ms, "experts": 2 * attention_ms},
    )


def test_interference_is_a_ratio_of_the_same_cell() -> None:
    work = Scenario.create(workload={"tokens_per_rank": 64})
    runs = [
        Run(scenario=work.with_strategy(name).model_dump(mode="json"), repeats=[kept])
        for name, kept in (("replicated", figures(2.0, 0.5)), ("dwdp", figures(3.0, 0.6)))
    ]
    file = RunsFile(
        title="", provenance="measured", machine="cpu", ranks=2, device="a CPU", versions={}, date="2026-11-30",
        command="", runs=runs,
    )  # fmt: skip
    assert repr(recorded_interference(file)).splitlines()[-1].split() == [
        "64", "1.500", "1.200", "1.200", "10.0", "%", "-", "-", "-", "-",
    ]  # fmt: skip
