"""`bench all`: what it says and writes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dwdp_lab.cli.main import main
from dwdp_lab.measure import all_parts
from dwdp_lab.measure.all_parts import Part


def test_parts_are_told_as_they_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    some = (Part("one", ("--version",)), Part("two", ("run", "--model", "none-such")), Part("three", ("--version",)))
    monkeypatch.setattr(all_parts, "parts", lambda *_: some)
    folder, told = tmp_path / "new" / "folder", tmp_path / "told.json"
    assert main(["bench", "all", str(folder), "--json", str(told)]) == 1
    printed = capsys.readouterr().out
    assert "one: done" in printed
    assert "two: failed" in printed
    assert "none-such" in printed  # why
    parts = json.loads(told.read_text())["parts"]
    assert [(one["part"], one["status"]) for one in parts] == [("one", "done"), ("two", "failed"), ("three", "done")]
    assert parts[1]["command"] == "dwdp-lab run --model none-such"
    assert main(["bench", "all", str(folder), "--only", "three,one", "--json", "-"]) == 0
    kept = capsys.readouterr()
    assert [one["part"] for one in json.loads(kept.out)["parts"]] == ["one", "three"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--only", "copeis"], ["--only", "'copeis'", "'copies'"]),
        (["--ranks", "1"], ["--ranks", "2 to 64"]),
        (["--minutes", "0"], ["--minutes", "above 0"]),
        (["--json", "no/such/folder/x.json"], ["--json", "folder"]),
    ],
)
def test_bad_input_is_refused_in_one_line(
    options: list[str], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "records"
    assert main(["bench", "all", str(folder), *options]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert all(word in error for word in words)
    assert not folder.exists()


def test_a_file_is_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "taken").write_text("")
    for name in ("taken", "taken/below"):
        assert main(["bench", "all", str(tmp_path / name)]) == 2
        assert "FOLDER" in capsys.readouterr().err
