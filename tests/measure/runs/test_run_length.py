"""Runs that were too short to tell of what lasts say so."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from dwdp_lab.measure.runs.recorded_runs import MachineRun, read_runs
from dwdp_lab.measure.runs.run_length import LASTS_MS, about_length
from dwdp_lab.measure.runs.strategies_run import Sitting, measure_grid
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.run import run_sim

HERE = {"cpus_allowed": 64, "device": "a device", "gpus": 2, "date": "2026-11-30T00:00:00"}


def test_three_steps_are_short_and_twelve_last() -> None:
    (note,) = about_length(read_runs("h200-pair-tokens").runs)
    assert note.startswith("runs were 12.7 to 188 ms long")
    assert about_length(read_runs("h200-pair-distance").runs) == ()
    assert about_length([]) == ()


@pytest.mark.parametrize(("machine", "told"), [("cuda", True), ("cpu", False)])
def test_only_gpus_are_told_of(machine: MachineRun, told: bool) -> None:
    """A CPU has no such limit that anybody would notice."""

    class Group:
        def run(self, scenario: Scenario) -> Any:
            timeline = replace(run_sim(scenario), environment=HERE)
            assert max(span.end_us for span in timeline.spans) < 1e3 * LASTS_MS
            return SimpleNamespace(timeline=timeline, samples=(), output_sha256=())

    kept: list[Any] = []
    sitting = Sitting(machine, [Scenario.create()], 2, 0, "two runs", "dwdp-lab bench strategies")
    file = measure_grid(sitting, Group(), kept.append)  # type: ignore[arg-type]
    assert any("--set workload.steps=N" in note for note in file.notes) == told
    assert len(kept) == 2
    assert kept[0].notes == kept[1].notes  # said once
