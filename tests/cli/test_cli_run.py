"""`dwdp-lab run`: JSON, files, and refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dwdp_lab.cli.main import main
from dwdp_lab.view.control.history import History


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["run", *arguments, "--json", "-"]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)  # JSON alone
    return answer


KEYS = {
    "strategy",
    "machine",
    "provenance",
    "step_ms",
    "compute_ms",
    "exposed_copy_ms",
    "wait_on_peers_ms",
    "overlap_pct",
    "tokens_per_s_per_rank",
    "output_sha256",
    "wall_ms",
    "per_rank",
}


def test_json_has_the_promised_form(capsys: pytest.CaptureFixture[str]) -> None:
    answer = run(capsys, "--ranks", "4", "--strategies", "replicated,dep,weight_gather,dwdp,tensor,pipeline")
    assert [r["strategy"] for r in answer["results"]] == [
        "replicated",
        "dep",
        "weight_gather",
        "dwdp",
        "tensor",
        "pipeline",
    ]
    assert answer["scenario"]["group"]["ranks"] == 4
    for result in answer["results"]:
        assert set(result) >= KEYS
        assert (result["machine"], result["provenance"], result["output_sha256"]) == ("sim", "simulated", [])
        assert len(result["per_rank"]) == 4
        mean = sum(rank["step_ms"] for rank in result["per_rank"]) / 4
        assert result["step_ms"] == pytest.approx(mean)
        assert result["wall_ms"] > 0


def test_physics_and_profile_are_a_choice(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--ranks", "2", "--strategies", "replicated", "--set", "workload.tokens_per_rank=4096")
    bound, real, calm, other = (
        run(capsys, *options, *more)["results"][0]
        for more in ((), ("--physics", "realistic"), ("--physics", "realistic,efficiency=off"), ("--hardware", "gb200"))
    )
    assert bound["notes"] == ["hardware profile h100 (limit)"]
    assert real["notes"] == ["hardware profile h100 (calibrated)", "physics: realistic"]
    assert real["step_ms"] > calm["step_ms"] > bound["step_ms"] > other["step_ms"]


def test_dep_waits_and_dwdp_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    answer = run(capsys, "--ranks", "2", "--strategies", "dep,dwdp", "--set", "workload.cv=0.3")
    dep, dwdp = answer["results"]
    assert dep["wait_on_peers_ms"] > 0
    assert dwdp["wait_on_peers_ms"] == 0


def test_a_scenario_from_a_file_is_changed_by_options(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "scenario.yaml"
    file.write_text("model: tiny\ngroup: {ranks: 2}\nworkload: {kind: cv, tokens_per_rank: 64}\nlink_gbps: .inf\n")
    answer = run(capsys, "--scenario", str(file), "--ranks", "3", "--set", "model.layers=7")
    assert answer["scenario"]["model"]["layers"] == 7
    assert answer["scenario"]["group"]["ranks"] == 3
    assert answer["scenario"]["workload"]["tokens_per_rank"] == 64
    assert answer["scenario"]["link_gbps"] == "inf"
    assert answer["results"][0]["exposed_copy_ms"] == 0


def test_trace_and_svg_are_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    trace, svg, figures = tmp_path / "trace.json", tmp_path / "picture.svg", tmp_path / "figures.json"
    options = ["--strategies", "dep,dwdp", "--trace", str(trace), "--svg", str(svg), "--json", str(figures)]
    assert main(["run", *options]) == 0
    assert "dwdp" in capsys.readouterr().out  # the table
    kinds = {event.get("name") for event in json.loads(trace.read_text())["traceEvents"]}
    assert any("pull" in str(kind) for kind in kinds)
    assert svg.read_text().startswith("<svg")
    assert len(json.loads(figures.read_text())["results"]) == 2


def test_the_table_says_which_profile_and_physics_it_rests_on(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["run", "--strategies", "dep,dwdp", "--hardware", "h100"]
    assert main(options) == 0
    assert capsys.readouterr().out.count("- hardware profile h100 (limit)") == 1
    assert main([*options, "--physics", "realistic"]) == 0
    realistic = capsys.readouterr().out
    assert "- hardware profile h100 (calibrated)" in realistic
    assert "- physics: realistic" in realistic


def test_no_figure_of_the_table_loses_digits(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--strategies", "dep,dwdp"]) == 0  # the tiny model on an H100: 100 million tokens a second
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert "simulated" in printed
    assert "(sim)" in printed
    assert main(["run", "--model", "qwen3-30b-a3b"]) == 0
    assert "simulated (sim)" in capsys.readouterr().out  # on one line where there is room


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--strategies", "dwpd"], ["--strategies", "'dwpd'", "replicated, dep", "'dwdp'"]),
        (["--set", "strategy.slotz=3"], ["strategy.slotz", "no such field", "'slots'"]),
        (["--set", "strategy.slots=9"], ["strategy.slots", "9", "3"]),
        (["--set", "nonsense"], ["--set", "'nonsense'", "KEY=VALUE"]),
        (["--ranks", "300"], ["group.ranks", "300", "256"]),
        (["--model", "mixtrall-8x7b"], ["model", "'mixtrall-8x7b'", "mixtral-8x7b"]),
        (["--set", "hardware=h10"], ["hardware", "'h10'", "h100"]),
        (["--hardware", "list.json"], ["hardware", "'list.json'", "JSON object", "data/hardware"]),
        (["--scenario", "missing.yaml"], ["scenario", "missing.yaml"]),
        (["--json", "no/such/folder/x.json"], ["--json", "no/such/folder/x.json", "folder"]),
        (["--trace", "."], ["--trace", "'.'", "is a folder"]),
        (["--scenario", "."], ["scenario", "'.'", "Is a directory"]),
        (["--verify"], ["--verify", "--machine cpu"]),
        (["--physics", "real"], ["physics", "'real'", "realistic"]),
        (["--physics", "realistic", "--hardware", "laptop"], ["hardware", "'laptop'", "calibrate"]),
        (["--physics", "bound", "--machine", "cpu"], ["--physics", "'bound'", "--machine sim"]),
        (["--model", "gpt-oss-120b", "--set", "hardware=laptop", "--set", "workload.cv=0.9"], ["workload.cv", "0.9"]),
    ],
)
def test_bad_input_is_refused_in_one_line(
    options: list[str],
    words: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.json").write_text("[1, 2]")
    assert main(["run", *options]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    for word in words:
        assert word in captured.err


@pytest.mark.parametrize(
    "options",
    [["--model", "deepseek-r1"], ["--set", "workload={kind: trace, file: nowhere.csv}"]],
    ids=["model", "trace"],
)
def test_what_ranks_cannot_run_is_refused_before_they_start(
    options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dwdp_lab.execute.ranks.Ranks.start", lambda _: pytest.fail("ranks were started"))
    assert main(["run", "--machine", "cpu", *options]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_reader_that_has_enough_gets_no_traceback() -> None:
    command = [sys.executable, "-m", "dwdp_lab.cli.main", "run", "--json", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


@pytest.mark.ranks
def test_cpu_ranks_give_equal_outputs_and_pass_the_oracle(capsys: pytest.CaptureFixture[str]) -> None:
    answer = run(
        capsys,
        "--machine",
        "cpu",
        "--ranks",
        "2",
        "--strategies",
        "replicated,dep,dwdp",
        "--set",
        "workload.tokens_per_rank=96",
        "--verify",
    )
    replicated, dep, dwdp = answer["results"]
    assert dwdp["output_sha256"] == replicated["output_sha256"]
    assert len(dwdp["output_sha256"]) == 2
    assert dwdp["wait_on_peers_ms"] == 0
    for result in (replicated, dep, dwdp):
        assert (result["machine"], result["provenance"]) == ("cpu", "measured")
        assert result["oracle"]["outputs"] == 192
        assert result["oracle"]["largest_error"] <= result["oracle"]["bound"]


TRACES = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.mark.ranks
def test_experts_in_e4m3_are_verified_on_ranks(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--machine", "cpu", "--ranks", "2", "--strategies", "replicated,dep,weight_gather,dwdp,tensor,pipeline"]
    answer = run(capsys, *options, "--verify", "--set", "model.expert_dtype=fp8_channel", "--set", "model.dtype=bf16")
    results = {result["strategy"]: result for result in answer["results"]}
    for result in results.values():
        assert 0 < result["oracle"]["largest_error"] <= result["oracle"]["bound"] < 0.25
    for name in ("weight_gather", "dwdp", "pipeline"):
        assert results[name]["output_sha256"] == results["replicated"]["output_sha256"]
    plain = run(capsys, *options[:4], "--strategies", "replicated", "--set", "model.dtype=bf16")
    assert plain["results"][0]["output_sha256"] != results["replicated"]["output_sha256"]


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("trace", "divide_by"), [("azure-2023-conv.csv", 8), ("mooncake-conversation.jsonl", 64)], ids=["azure", "mooncake"]
)
def test_200_requests_of_a_real_trace_give_the_references_outputs(
    trace: str, divide_by: int, capsys: pytest.CaptureFixture[str]
) -> None:
    if not (TRACES / trace).is_file():
        pytest.skip(f"{trace} is not there: it is not shipped with the project")
    workload = f"{{kind: trace, file: '{TRACES / trace}', requests: 200, divide_by: {divide_by}, mnt_tokens: 2048}}"
    options = ["--machine", "cpu", "--ranks", "2", "--strategies", "replicated,dep,dwdp", "--verify"]
    answer = run(capsys, *options, "--set", f"workload={workload}")
    replicated, dep, dwdp = answer["results"]
    assert dwdp["output_sha256"] == replicated["output_sha256"]
    for result in (replicated, dep, dwdp):
        assert result["oracle"]["largest_error"] <= result["oracle"]["bound"]
        assert result["oracle"]["outputs"] == sum(rank["tokens"] for rank in result["per_rank"])


def test_saved_runs_are_what_the_control_room_opens(tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    assert main(["run", "--strategies", "dep,dwdp", "--set", "strategy.slots=3", "--save", str(path)]) == 0
    opened = History().open_text(path.read_text())
    assert [run.timeline.strategy for run in opened] == ["dep", "dwdp"]
    assert {run.timeline.provenance for run in opened} == {"recorded"}
    assert all(run.timeline.spans for run in opened)
    dep, dwdp = (run.scenario for run in opened)
    assert dep is not None
    assert dwdp is not None
    assert (dep.strategy.name, dwdp.strategy.name, dwdp.strategy.slots) == ("dep", "dwdp", 3)
    assert main(["run", "--save", str(tmp_path / "no" / "runs.json")]) == 2
