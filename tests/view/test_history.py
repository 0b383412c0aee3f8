"""The history: numbers, partners, and a file that never looks live."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from machines_for_tests import measured

from dwdp_lab.cli.main import main
from dwdp_lab.measure.runs.recorded_runs import FORM
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.shipped import shipped
from dwdp_lab.simulate.run import run_sim
from dwdp_lab.timeline.json_form import to_json
from dwdp_lab.view.control.history import History

SCENARIO = Scenario.create(workload={"tokens_per_rank": 64})


def filled() -> History:
    history = History()
    for name in ("dep", "dwdp"):
        scenario = SCENARIO.with_strategy(name)
        history.add(run_sim(scenario), scenario)
        history.add(measured(scenario), scenario)
    return history


def test_runs_keep_their_numbers() -> None:
    history = filled()
    assert [run.number for run in history.runs] == [1, 2, 3, 4]
    history.remove(2)
    assert history.add(run_sim(SCENARIO), SCENARIO).number == 5
    assert history.get(3).timeline.strategy == "dwdp"
    with pytest.raises(KeyError, match="no run #2"):
        history.get(2)
    assert history.get(4).title == "#4 DWDP, CPU, measured"
    assert "tiny, 4 layers, N 2, L 4, 64 tokens, CV 0.20" in history.get(4).setting


def test_a_partner_is_the_newest_run_of_the_other_strategy_on_the_same_work_and_machine() -> None:
    history = filled()
    assert history.partner(history.get(4), "dep") is history.get(2)
    assert history.partner(history.get(3), "dep") is history.get(1)
    assert history.partner(history.get(4), "replicated") is None
    later = history.add(measured(SCENARIO.with_strategy("dep")), SCENARIO.with_strategy("dep"))
    assert history.partner(history.get(4), "dep") is later
    other = SCENARIO.replace(**{"workload.cv": 0.4})
    alone = history.add(measured(other), other)
    assert history.partner(alone, "dep") is None
    assert history.partner(history.add(alone.timeline, None), "dep") is None


def test_saved_runs_come_back_as_recorded_with_their_scenario() -> None:
    history = filled()
    again = History()
    opened = again.open_text(history.to_text())
    assert [run.timeline.provenance for run in opened] == ["recorded"] * 4
    assert [run.timeline.spans for run in opened] == [run.timeline.spans for run in history.runs]
    assert [run.scenario for run in opened] == [run.scenario for run in history.runs]
    assert [run.when for run in opened] == [run.when for run in history.runs]
    assert "recorded; measured when it ran" in opened[1].timeline.notes
    assert again.partner(opened[3], "dep") is opened[2] or again.partner(opened[3], "dep") is opened[1]


def test_a_bare_timeline_and_one_whose_scenario_is_no_more_can_be_opened() -> None:
    history = History()
    [run] = history.open_text(json.dumps(to_json(run_sim(SCENARIO))))
    assert run.scenario is None
    assert run.setting == "2 ranks"
    kept = json.loads(filled().to_text())
    kept["runs"][0]["scenario"]["workload"] = {"kind": "trace", "file": "gone.csv"}
    assert history.open_text(json.dumps(kept))[0].scenario is None


def test_shipped_runs_are_there_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "two-gpus.json").write_text(filled().to_text(), encoding="utf-8")
    (tmp_path / "clock.json").write_text('{"format": "of something else"}', encoding="utf-8")
    grid = ["bench", "strategies", "--machine", "sim", "--tokens", "16", "--json", str(tmp_path / "grid.json")]
    assert main(grid) == 0  # kept there too, and holds no timelines
    found = {path.stem: path for path in sorted(tmp_path.glob("*.json"))}
    monkeypatch.setattr("dwdp_lab.view.control.history.shipped", lambda *_: found)
    assert [run.timeline.provenance for run in History.with_shipped_runs().runs] == ["recorded"] * 4


def test_what_ships_is_recorded_on_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dwdp_lab.view.control.history.shipped", shipped)
    runs = History.with_shipped_runs().runs
    assert {run.timeline.strategy for run in runs} >= {"replicated", "dep", "dwdp"}
    for run in runs:
        assert run.timeline.provenance == "recorded"
        assert run.timeline.machine == "cuda"
        assert run.scenario is not None


@pytest.mark.parametrize("text", ["", "[1]", '{"format": "something else"}', f'{{"format": "{FORM}"}}'])
def test_other_files_are_refused_and_nothing_is_added(text: str) -> None:
    history = filled()
    with pytest.raises(ValueError, match="the file"):
        history.open_text(text)
    broken = json.loads(history.to_text())
    broken["runs"][1]["timeline"]["spans"][0] = [1]
    with pytest.raises(ValueError, match="spans"):
        history.open_text(json.dumps(broken))
    assert len(history.runs) == 4
