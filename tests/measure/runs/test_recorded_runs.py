"""Runs that are kept: their form, how they are written, and what is refused with which words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dwdp_lab.measure.runs.figures import Figures
from dwdp_lab.measure.runs.recorded_runs import FORM, Run, RunsFile, kept_runs, new_file, read_runs, write_runs
from dwdp_lab.measure.where import Where, where_measured
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.shipped import shipped
from dwdp_lab.simulate.hardware import load_hardware

WHERE = Where("cpu", 2, "a machine", {"python": "3.11"}, "2026-11-23T10:00:00", "dwdp-lab bench strategies", ("busy",))


def figures(step_ms: float) -> Figures:
    """Figures that say little but for the step."""
    return Figures(
        step_ms=step_ms,
        compute_ms=step_ms,
        communication_ms=0,
        exposed_copy_ms=0,
        wait_on_peers_ms=0,
        idle_ms=0,
        overlap_pct=100,
        tokens_per_s=1e3 / step_ms,
    )


def a_file(*steps: float) -> RunsFile:
    run = Run(scenario=Scenario.create().to_dict(), repeats=[figures(step) for step in steps])
    file = new_file("Some runs", WHERE, 3, load_hardware("laptop"))
    return file.model_copy(update={"runs": [run]})


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path, file = tmp_path / "runs.json", a_file(3.0, 1.0, 2.0)
    write_runs(path, file)
    again = read_runs(str(path))
    assert again == file
    assert again.runs[0].read_scenario == Scenario.create()
    assert again.runs[0].figures == figures(2.0).model_copy(update={"tokens_per_s": 500.0})
    assert (again.hardware, again.notes, again.seed) == (load_hardware("laptop"), ["busy"], 3)
    assert list(tmp_path.iterdir()) == [path]  # nothing half written is left


def test_what_is_read_is_called_recorded() -> None:
    assert a_file(1.0).shown_provenance == "recorded 2026-11-23 on a machine (measured when it ran)"


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "runs.json"
    write_runs(path, a_file(1.0))
    before = path.read_text()

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="no space"):
        write_runs(path, a_file(2.0))
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]


def _broken(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    fields = a_file(1.0).to_dict()
    change(fields)
    return fields


@pytest.mark.parametrize(
    ("fields", "field", "says"),
    [
        ([], "runs.json: format", "reads 'dwdp-lab runs 1'"),
        (_broken(lambda f: f.update(format="dwdp-lab runs 9")), "runs.json: format", "reads"),
        (_broken(lambda f: f.pop("device")), "device", "is missing"),
        (_broken(lambda f: f.update(colour="red")), "colour", "no such field"),
        (_broken(lambda f: f["runs"][0]["repeats"][0].update(step_ms=0)), "step_ms", "above 0"),
        (_broken(lambda f: f["runs"][0].update(repeats=[])), "repeats", "at least 1"),
        (_broken(lambda f: f["runs"][0]["scenario"]["group"].update(ranks=0)), "runs.0.scenario.group.ranks", "from 1"),
    ],
)
def test_what_does_not_hold_runs_is_refused(fields: Any, field: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    path.write_text(json.dumps(fields))
    with pytest.raises(ScenarioError) as caught:
        read_runs(str(path))
    assert field in caught.value.field
    assert says in caught.value.allowed


def test_a_file_that_is_not_there_or_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="neither a file nor kept runs"):
        read_runs("nowhere.json")
    (tmp_path / "runs.json").write_text("{")
    with pytest.raises(ScenarioError, match="is not JSON"):
        read_runs(str(tmp_path / "runs.json"))


def test_all_kept_runs_can_be_read() -> None:
    for name in kept_runs():
        file = read_runs(name)
        assert file.format == FORM
        assert file.provenance == "measured"
        assert file.runs


ABSOLUTE = re.compile(r"(?<![\w.)\]~/])/\w[\w.-]*/")
"""The beginning of a path from a file system's root; not of `GB/s`, `data/measured/` or an address."""


def test_what_is_kept_names_no_folder_of_the_machine_it_was_measured_on() -> None:
    kept = shipped("measured", ".json")
    assert len(kept) >= 3
    for path in kept.values():
        assert ABSOLUTE.search(path.read_text(encoding="utf-8")) is None, path.name
    for planted in ("--json /tmp/x.json", '"/home/me/runs.json"', "FILE=/opt/lab/a", "at:/root/b"):
        assert ABSOLUTE.search(planted)
    for harmless in ("394 GB/s/rank", "data/measured/x.json", "https://example.org/a/b", "tests/execute/cuda"):
        assert not ABSOLUTE.search(harmless)


def test_where_comes_from_a_runs_environment() -> None:
    environment = {
        "device": "a GPU",
        "cpus_allowed": 4,
        "python": "3.12",
        "torch": "2.13",
        "date": "2026-11-23T10:00:00",
    }
    where = where_measured(environment, "cuda", 2, "dwdp-lab calibrate")
    assert where.versions == {"python": "3.12", "torch": "2.13"}
    assert where.words == "2 cuda ranks on a GPU, python 3.12, torch 2.13, 2026-11-23"
    pair = where_measured(environment | {"gpus": 8}, "cuda", 2, "x")
    assert (pair.device, pair.notes) == ("2 x a GPU", ())
    shared = where_measured(environment | {"gpus": 2, "ranks_per_gpu": 2}, "cuda", 4, "x")
    assert (shared.device, shared.notes) == ("2 x a GPU", ("crowded: 2 ranks share a GPU",))
    crowded = where_measured(environment | {"cpus_allowed": 1}, "cpu", 2, "x")
    assert crowded.notes[0] == "crowded: 2 ranks on 1 CPU cores"


@pytest.mark.parametrize(("load", "told"), [((8.1, 0.0, 0.0), True), ((8.0, 99.0, 99.0), False)])
def test_a_machine_with_twice_as_much_to_do_as_cores_is_busy(
    load: tuple[float, float, float], told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the last minute's load, and only where cores are what is measured."""
    monkeypatch.setattr("os.getloadavg", lambda: load)
    environment = {"device": "a CPU", "cpus_allowed": 4, "date": "2026-11-23T10:00:00"}
    busy = ("busy: load average 8.1 on 4 CPU cores at the end",)
    assert where_measured(environment, "cpu", 4, "x").notes == (busy if told else ())
    assert where_measured(environment, "cuda", 4, "x").notes == ()
