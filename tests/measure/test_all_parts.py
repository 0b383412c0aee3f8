"""The parts of `bench all`: commands that the lab has, and how they are run, fail, and are stopped."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from dwdp_lab.cli import bench, calibrate, doctor, run
from dwdp_lab.cli.bench_contention import ORDERS
from dwdp_lab.cli.bench_strategies import sitting_from
from dwdp_lab.cli.scenario_options import scenario_from
from dwdp_lab.measure.all_parts import SHARING, Part, parts
from dwdp_lab.measure.run_parts import run_parts
from dwdp_lab.measure.transfers.transfers import MachineName


def parsed(part: Part) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    commands = parser.add_subparsers(dest="command", required=True)
    for command in (bench, calibrate, doctor, run):
        command.add_to(commands)
    return parser.parse_args(part.words)


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("ranks", [2, 3, 8])
@pytest.mark.parametrize("machine", ["cpu", "cuda"])
def test_every_part_is_a_command_of_the_lab(machine: MachineName, ranks: int, quick: bool) -> None:
    found = {part.name: parsed(part) for part in parts(machine, ranks, quick)}
    assert list(found)[:3] == ["doctor", "copies", "profile"]
    assert ("kernels" in found) == (machine == "cuda")
    for name in ("copies", "profile", "grid", "variants", "timelines"):
        assert (found[name].machine, found[name].ranks) == (machine, ranks)
    assert found["contention"].ranks == max(ranks, SHARING)
    assert found["contention"].orders == ",".join(ORDERS)
    files = [str(options.json or options.save) for options in found.values()]
    assert len(set(files)) == len(files)


@pytest.mark.parametrize("machine", ["cpu", "cuda"])
def test_the_grids_can_be_run_and_cover_what_is_to_be_predicted(machine: MachineName) -> None:
    found = {part.name: parsed(part) for part in parts(machine, 2)}
    grid, variants = (
        sitting_from(argparse.Namespace(**{**vars(found[name]), "hardware": "h200"})).scenarios
        for name in ("grid", "variants")
    )
    assert len(grid) + len(variants) >= 24
    for scenarios in (grid, variants):
        names = {scenario.strategy.name for scenario in scenarios}
        assert {"replicated", "dep", "dwdp"} <= names  # ratios to both can be taken
    timelines = scenario_from(found["timelines"])
    assert timelines.batches.mean_cv() > 0.1
    assert timelines.batches.steps == 2
    dwdp = [scenario.strategy for scenario in variants if scenario.strategy.name == "dwdp"]
    assert {one.weight_view for one in dwdp} == {"split", "merged", "composite"}
    assert {one.overlap for one in dwdp} == {one.cross_step for one in dwdp} == {True, False}
    assert len({one.slice_bytes for one in dwdp}) >= 2


@pytest.mark.parametrize("ranks", [3, 4, 8])
def test_more_than_two_gpus_are_asked_about_meetings_and_redundancy(ranks: int) -> None:
    (part,) = (one for one in parts("cuda", ranks) if one.name == "grid")
    grid = sitting_from(argparse.Namespace(**{**vars(parsed(part)), "hardware": "h200"})).scenarios
    dwdp = [scenario for scenario in grid if scenario.strategy.name == "dwdp"]
    least = -(-dwdp[0].model.experts // ranks)
    assert {one.local_experts for one in dwdp} == {least, 2 * least}
    assert {one.strategy.peer_order for one in dwdp} == {"rotated", "interleaved"}
    assert max(one.workload.tokens_per_rank for one in grid) == 65536  # type: ignore[union-attr]


def test_a_part_that_fails_costs_only_itself(tmp_path: Path) -> None:
    broken = Part("broken", ("run", "--model", "no-such-model"))
    outcomes = list(run_parts((broken, Part("version", ("--version",))), tmp_path))
    assert [one.status for one in outcomes] == ["failed", "done"]
    assert "no-such-model" in outcomes[0].last_words
    assert outcomes[1].last_words.startswith("dwdp-lab ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.log", "version.log"]


def test_files_lie_in_the_folder_whatever_modules_are_there(tmp_path: Path) -> None:
    (tmp_path / "random.py").write_text("raise SystemExit('this is not the standard library')")
    part = Part("sim", ("bench", "strategies", "--machine", "sim", "--tokens", "16", "--json", "runs.json"))
    (outcome,) = run_parts((part,), tmp_path)
    assert outcome.status == "done", outcome.last_words
    assert (tmp_path / "runs.json").is_file()


@pytest.mark.ranks
def test_when_the_time_is_up_what_runs_is_stopped_and_the_rest_left_out(tmp_path: Path) -> None:
    words = ("bench", "copies", "--repeats", "10000", "--largest", "64KiB", "--share", "64KiB", "--json", "copies.json")
    said: list[str] = []
    chosen = (Part("endless", words), Part("next", ("--version",)))
    outcomes = list(run_parts(chosen, tmp_path, 2.0, lambda part: said.append(part.name)))
    assert [one.status for one in outcomes] == ["stopped", "left out"]
    assert said == ["endless"]
    assert "interrupted; nothing is left running" in outcomes[0].last_words
    assert not (tmp_path / "next.log").exists()
