"""`dwdp-lab doctor`: a real look at this machine, its JSON, its exit status, and what it leaves alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import dwdp_lab.doctor.check_machine as looking
from dwdp_lab.cli.main import main
from dwdp_lab.doctor.finding import FORMS, Finding
from dwdp_lab.doctor.report import FORMAT, Report

PATIENT = """\
import sys
import dwdp_lab.doctor.check_machine as looking
looking.check_machine.__defaults__ = (100.0, *looking.check_machine.__defaults__[1:])  # a busy machine is no failure
from dwdp_lab.cli.main import main
status = main(sys.argv[1:])
print("status", status, "loaded", *sorted({"torch", "triton", "numpy", "zmq"} & set(sys.modules)), file=sys.stderr)
"""


def doctor(folder: Path, **environment: str) -> tuple[dict[str, Any], str]:
    """The figures and what was said on standard error, in a Python of its own."""
    done = subprocess.run(
        [sys.executable, "-c", PATIENT, "doctor", "--json", "-"],
        env={**os.environ, **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout), done.stderr  # JSON alone


@pytest.mark.ranks
def test_a_real_look_at_this_machine(tmp_path: Path) -> None:
    figures, said = doctor(tmp_path)
    assert "status 0 loaded\n" in said  # neither torch nor CUDA in the process that asks
    assert figures["format"] == FORMAT
    assert set(figures) == {"format", "dwdp_lab", "usable", "carries", "findings", "took_s"}
    assert figures["usable"]
    assert list(figures["carries"]) == list(FORMS)
    assert figures["carries"]["CPU ranks"]
    for finding in figures["findings"]:
        assert set(finding) == set(Finding._fields)
        assert finding["level"] in ("ok", "warn", "fail")
        assert set(finding["stops"]) <= set(FORMS)
        assert finding["found"]
        assert finding["meaning"]
        assert finding["level"] == "ok" or finding["fix"]
    ok = {finding["name"] for finding in figures["findings"] if finding["level"] == "ok"}
    assert {"rank processes", "memory shared by two processes", "a notebook's kernel", "simulator's packages"} <= ok
    assert list(tmp_path.iterdir()) == []


def test_without_torch_the_lab_is_still_usable(tmp_path: Path) -> None:
    hiding = tmp_path / "hiding"
    hiding.mkdir()
    # read by every Python that starts: torch, psutil and triton are neither installed nor to be imported
    (hiding / "sitecustomize.py").write_text(
        "import importlib.metadata as metadata, sys\n"
        "HIDDEN = {'torch', 'triton', 'psutil'}\n"
        "class Hide:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.split('.')[0] in HIDDEN: raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Hide())\n"
        "real = metadata.version\n"
        "def version(name):\n"
        "    if name in HIDDEN: raise metadata.PackageNotFoundError(name)\n"
        "    return real(name)\n"
        "metadata.version = version\n"
    )
    figures, said = doctor(tmp_path, PYTHONPATH=str(hiding))
    assert "status 0" in said
    assert figures["usable"]
    assert not figures["carries"]["CPU ranks"]
    found = {finding["name"]: finding for finding in figures["findings"]}
    assert found["packages of the ranks"]["found"] == "torch missing, psutil missing"
    assert [name for name, finding in found.items() if finding["level"] == "fail"] == []


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    """What the doctor finds, in place of looking."""
    findings = [Finding("Python", "ok", "3.11 [x]", "fine")]
    monkeypatch.setattr(looking, "check_machine", lambda **_: Report(tuple(findings), 1.0))
    return findings


def test_the_table_shows_every_line_and_its_fix(reported: list[Finding], capsys: pytest.CaptureFixture[str]) -> None:
    reported.append(Finding("GPUs", "warn", "none [found]", "no speeds", "rent [one]", ("GPU ranks",)))
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    for text in ("3.11 [x]", "none [found]", "no speeds", "Fix: rent [one]", "This machine carries: simulator"):
        assert text in shown


def test_a_machine_that_cannot_run_the_lab_ends_with_1(reported: list[Finding], tmp_path: Path) -> None:
    reported.append(Finding("Jupyter", "fail", "missing", "no notebooks", "make setup", ("notebooks",)))
    assert main(["doctor", "--json", str(tmp_path / "found.json")]) == 1
    assert json.loads((tmp_path / "found.json").read_text())["usable"] is False


def test_a_file_that_cannot_be_written_is_refused_at_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "check_machine", pytest.fail)
    assert main(["doctor", "--json", "/no/such/folder/found.json"]) == 2
    assert "its folder does not exist" in capsys.readouterr().err


def test_a_wrong_option_ends_with_2() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--quick"])
    assert ended.value.code == 2
