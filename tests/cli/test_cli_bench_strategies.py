"""`bench strategies` and `bench compare`: what they write and say, refusals, interrupts; and `calibrate` on ranks."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from dwdp_lab.cli.main import main
from dwdp_lab.cli.runs_tables import show_runs
from dwdp_lab.measure.runs.recorded_runs import read_runs
from dwdp_lab.simulate.hardware import load_hardware

GRID = ("--machine", "sim", "--tokens", "16,64", "--cv", "0,0.3")


def _bench(*options: str) -> int:
    return main(["bench", "strategies", *options])


def test_a_grid_in_virtual_time(capsys: pytest.CaptureFixture[str]) -> None:
    assert _bench(*GRID, "--json", "-") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["format"], answer["provenance"], answer["machine"]) == ("dwdp-lab runs 1", "simulated", "sim")
    assert len(answer["runs"]) == 2 * 2 * 4  # replicated, both forms of DEP, DWDP
    assert len(answer["summary"]) == 16
    deps = [row for row in answer["summary"] if row["strategy"].startswith("dep")]
    assert {row["over_best_dep"] == 1.0 for row in deps} == {True, False}
    assert answer["summary"][0].keys() >= {"strategy", "tokens", "cv", "step_ms", "over_best_dep", "best_dep"}
    assert answer["command"] == (
        "dwdp-lab bench strategies --machine sim --tokens 16,64 --cv 0,0.3 --strategies replicated,dep,dwdp "
        "--repeats 5 --seed 0"
    )


def test_a_person_gets_a_table_and_the_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    picture = tmp_path / "crossover.svg"
    options = ("--links", "none,0.5", "--hardware", "h200", "--picture", str(picture), "--json", str(path))
    assert _bench(*GRID, *options) == 0
    assert "DWDP over the best DEP" in picture.read_text()
    printed = capsys.readouterr().out
    assert "best DEP" in printed
    assert "simulated on" in printed
    file = read_runs(str(path))
    assert len(file.runs) == 32
    assert file.hardware == load_hardware("h200")
    assert {run.scenario["link_gbps"] for run in file.runs} == {None, 0.5}


def test_no_folder_of_this_machine_is_kept(tmp_path: Path) -> None:
    profile, path = tmp_path / "mine.json", tmp_path / "runs.json"
    profile.write_text(load_hardware("h100").model_dump_json(exclude_none=True))
    assert _bench(*GRID, "--hardware", str(profile), "--json", str(path)) == 0
    assert str(tmp_path) not in path.read_text()
    assert "--hardware mine.json" in read_runs(str(path)).command


def test_an_interrupt_leaves_what_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dwdp_lab.measure.runs import strategies_run

    path, calls = tmp_path / "runs.json", []
    real = strategies_run.run_sim

    def third_is_stopped(*given: Any, **more: Any) -> Any:
        calls.append(given)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*given, **more)

    monkeypatch.setattr(strategies_run, "run_sim", third_is_stopped)
    assert _bench(*GRID, "--json", str(path)) == 130
    assert len(read_runs(str(path)).runs) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--tokens", "many"], ["--tokens", "'many'", "256,1024"]),
        (["--cv", "2"], ["workload.cv", "2.0"]),
        (["--strategies", "dwpd"], ["--strategies", "'dwpd'"]),
        (["--links", "fast"], ["--links", "'fast'"]),
        (["--repeats", "0"], ["--repeats", "1 to 1000"]),
        (["--machine", "cuda"], ["machine", "cuda"]),
        (["--machine", "sim", "--calibrate"], ["--calibrate", "virtual time"]),
        (["--hardware", "h100", "--calibrate"], ["--calibrate", "--hardware gives"]),
        (["--json", "no/such/folder/x.json"], ["--json", "folder"]),
        (["--strategies", "dwdp", "--picture", "x.svg"], ["--picture", "dwdp over dep"]),
        (["--set", "workload={kind: isl}"], ["workload.kind", "'isl'"]),
    ],
)
def test_bad_input_is_refused_in_one_line(
    options: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    if "cuda" in options and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    assert _bench(*options) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    for word in words:
        assert word in captured.err


def _measured(path: Path) -> None:
    """A file of runs as if they had been measured."""
    assert _bench(*GRID, "--hardware", "h100", "--json", str(path)) == 0
    fields = json.loads(path.read_text())
    path.write_text(json.dumps(fields | {"provenance": "measured", "machine": "cuda"}))


def test_compare_gives_errors_a_table_and_a_picture(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path, picture = tmp_path / "runs.json", tmp_path / "errors.svg"
    _measured(path)
    capsys.readouterr()
    assert main(["bench", "compare", str(path), "--picture", str(picture), "--json", "-"]) == 0
    answer = json.loads(capsys.readouterr().out)["runs"]
    assert answer["errors"]["runs"] == len(answer["rows"]) == 16
    assert answer["errors"]["median"] == answer["errors"]["worst"] == 0
    assert "recorded" in answer["provenance"]
    assert picture.read_text().startswith("<svg")
    assert main(["bench", "compare", str(path), "--hardware", "gb200"]) == 0
    printed = capsys.readouterr().out
    assert "median error" in printed
    assert "recorded" in printed


def test_compare_refuses_what_holds_no_runs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["bench", "compare", str(tmp_path / "nothing.json")]) == 2
    assert "neither a file nor kept runs" in capsys.readouterr().err


@pytest.mark.ranks
def test_a_grid_on_cpu_ranks_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "runs.json"
    options = ("--tokens", "16", "--cv", "0.3", "--strategies", "dep,dwdp:pull=routed", "--repeats", "2")
    assert _bench(*options, "--json", str(path)) == 0
    file = read_runs(str(path))
    assert (file.machine, file.provenance, len(file.runs)) == ("cpu", "measured", 3)
    assert all(len(run.repeats) == 2 for run in file.runs)
    assert all(len(run.outputs) == 1 for run in file.runs)  # the same in both repeats
    assert {"python", "torch"} <= set(file.versions)
    assert "/ best DEP" in capsys.readouterr().out


@pytest.mark.ranks
def test_what_pulls_cost_stands_beside_whether_they_brought_the_right_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "runs.json"
    assert _bench("--tokens", "16", "--cv", "0", "--repeats", "1", "--json", str(path)) == 0
    rows = {row.strategy: row for row in read_runs(str(path)).summary}
    assert rows["dwdp"].same_bits is True
    scaled = tmp_path / "scaled.json"
    options = ("--strategies", "replicated,dwdp:weight_view=composite", "--set", "model.expert_dtype=fp8_channel")
    assert _bench("--tokens", "16", "--cv", "0", "--repeats", "1", *options, "--json", str(scaled)) == 0
    assert [row.same_bits for row in read_runs(str(scaled)).summary] == [True, True]
    assert rows["dwdp"].kinds_over_replicated.keys() == {"attention", "route", "experts"}
    assert rows["replicated"].step_over_replicated == 1.0
    printed = capsys.readouterr().out
    assert "times over those of replicated" in printed
    assert "same bits" in printed
    assert "MHz" not in printed  # no GPU, no such columns


def test_clock_and_power_stand_beside_the_slowdowns(tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    assert _bench(*GRID, "--json", str(path)) == 0
    fields = json.loads(path.read_text())
    for run in fields["runs"]:
        run["repeats"][0]["gpu"] = {"looks": 3, "sm_mhz": 1755.0, "power_w": 655.5, "throttled_pct": 40.0}
    path.write_text(json.dumps(fields))
    console = Console(width=160, record=True, file=io.StringIO())
    show_runs(console, read_runs(str(path)))
    row = next(line for line in console.export_text().splitlines() if "1755" in line)
    assert [word in row for word in ("656", "40 %")] == [True, True]


@pytest.mark.ranks
def test_calibrating_cpu_ranks_gives_a_profile_that_predicts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile, samples = tmp_path / "profile.json", tmp_path / "samples.json"
    assert main(["calibrate", "--quick", "--out", str(profile), "--json", str(samples)]) == 0
    assert "beside a pull" in capsys.readouterr().out
    found = load_hardware(str(profile))
    assert found.provenance == "calibrated"
    assert found.calibration is not None
    assert found.calibration.command == "dwdp-lab calibrate --machine cpu --ranks 2 --quick"
    assert found.reached is not None
    assert {"dispatch", "combine", "gather_tokens", "reduce_tokens"} <= set(found.reached.exchanges)
    assert {"attention", "route", "experts"} <= set(found.reached.operations)
    kept = json.loads(samples.read_text())
    assert kept["profile"]["name"] == "calibrated-cpu"
    assert {"compute", "pulls", "exchanges", "beside_a_pull", "errors", "seconds"} <= set(kept)
    assert all(sample["us"] > 0 for sample in kept["compute"])
    assert main(["run", "--hardware", str(profile), "--physics", "realistic", "--strategies", "dep,dwdp"]) == 0
    assert "simulated" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--ranks", "1"], ["--ranks", "2 to 64"]),
        (["--out", "no/such/folder/x.json"], ["--out", "folder"]),
        (["--json", "no/such/folder/x.json"], ["--json", "folder"]),
    ],
)
def test_calibrate_refuses_in_one_line(
    options: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate", *options]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    for word in words:
        assert word in captured.err
