"""Progress: what is kept, where, and what happens when the file is no good; the command that shows it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from course import EXERCISES

from dwdp_lab.cli.progress import add_to, call, progress_figures
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.teach.barriers_answers import step_ms, tokens_cv
from dwdp_lab.teach.dealing import in_turn
from dwdp_lab.teach.failure import ExerciseFailed
from dwdp_lab.teach.lesson import lesson
from dwdp_lab.teach.progress import progress_file, read_progress


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "mine" / "progress.json"
    monkeypatch.setenv("DWDP_LAB_PROGRESS", str(path))
    return path


def test_where_it_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: Path) -> None:
    assert progress_file() == file
    monkeypatch.delenv("DWDP_LAB_PROGRESS")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert progress_file() == tmp_path / "dwdp-lab" / "progress.json"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert progress_file() == tmp_path / ".local" / "share" / "dwdp-lab" / "progress.json"


def test_tries_passes_targets_hints_and_guesses_are_kept() -> None:
    barriers = lesson("barriers")
    with pytest.raises(ExerciseFailed):
        barriers["step_ms"].check(...)
    barriers["step_ms"].check(step_ms)
    barriers["deal"].check(in_turn)
    barriers["deal"].hint(2)
    barriers["deal"].hint(1)
    barriers["tokens_cv"].solution()
    barriers.reveal("more_ranks", 50)
    barriers.reveal("more_ranks", 32)
    found = read_progress()
    step, deal = found.exercises["barriers.step_ms"], found.exercises["barriers.deal"]
    assert (step.tries, step.solution_seen) == (2, False)
    assert step.passed_on is not None
    assert deal.targets == ["waiting, against dealing in turn"]
    assert deal.hints == [1, 2]
    assert found.exercises["barriers.tokens_cv"].solution_seen
    assert found.exercises["barriers.tokens_cv"].passed_on is None
    assert found.guesses == {"barriers.more_ranks": 50.0}


def test_a_pass_stays_a_pass() -> None:
    exercise = lesson("barriers")["tokens_cv"]
    exercise.check(tokens_cv)
    with pytest.raises(ExerciseFailed):
        exercise.check(...)
    assert read_progress().exercises["barriers.tokens_cv"].passed_on is not None


def test_solutions_and_reading_keep_nothing(file: Path) -> None:
    lesson("barriers", keep_progress=False)["step_ms"].check(step_ms)
    lesson("barriers")["step_ms"].show(step_ms)
    assert not file.exists()
    assert read_progress().exercises == {}


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"exercises": {"x": {"tires": 1}}, "guesses": {}}'])
def test_a_file_that_is_no_progress_is_refused_and_left_alone(content: str, file: Path) -> None:
    file.parent.mkdir()
    file.write_text(content)
    with pytest.raises(ScenarioError, match=r"DWDP_LAB_PROGRESS = .*is not a progress file"):
        read_progress()
    with pytest.warns(UserWarning, match="your progress is not kept"):
        lesson("barriers")["step_ms"].check(step_ms)
    assert file.read_text() == content


def run(*arguments: str) -> int:
    import argparse

    parser = argparse.ArgumentParser()
    add_to(parser.add_subparsers())
    return call(parser.parse_args(["progress", *arguments]))


def test_the_command_prints_a_table(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    lesson("barriers")["step_ms"].check(step_ms)
    lesson("schedule")["one_slot"].hint(1)
    assert run() == 0
    printed = capsys.readouterr().out
    lines = {line.split()[0]: line for line in printed.splitlines() if re.match(r" ?\d\.\d ", line)}
    assert set(lines) == {each.number for each in EXERCISES}
    assert "passed" in lines["1.1"]
    assert "passed" not in lines["1.2"]
    assert lines["5.1"].split()[-1] == "1"  # hint
    assert f"1 of {len(EXERCISES)} exercises passed" in printed
    assert file.name in printed


def test_the_command_writes_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    lesson("barriers")["deal"].check(in_turn)
    assert run("--json", "-") == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures == json.loads(json.dumps(progress_figures()))
    assert (figures["passed"], figures["exercises"]) == (1, len(EXERCISES))
    deal = figures["lessons"][0]["exercises"][3]
    assert (deal["key"], deal["tries"], deal["passed"]) == ("barriers.deal", 1, True)
    assert deal["targets"] == {"waiting, against dealing in turn": True, "waiting, against longest first": False}
    target = tmp_path / "figures.json"
    assert run("--json", str(target)) == 0
    assert json.loads(target.read_text()) == figures
    with pytest.raises(ScenarioError, match="--json"):
        run("--json", str(tmp_path / "no" / "figures.json"))
