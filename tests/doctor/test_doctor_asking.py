"""Probes run in processes of their own: what hangs is cut off, what crashes is told."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

import dwdp_lab.doctor.check_machine as looking
from dwdp_lab.doctor.ask import Answer, ask
from dwdp_lab.doctor.check_machine import check_machine
from dwdp_lab.doctor.checks import Check
from dwdp_lab.doctor.facts import Facts
from dwdp_lab.doctor.finding import Finding

LONG_S = 100.0

PROBES = {
    "fine": "def probe(): return 'a' * 300_000",
    "raises": "def probe(): raise ValueError('no such thing')",
    "exits": "import sys\ndef probe(): sys.exit(3)",
    "crashes": """
import os, signal
def probe():
    print('about to crash', flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)
""",
    "leaves": "import os\ndef probe(): os._exit(7)",
    "chatters": "import sys\ndef probe():\n    print('x' * 200_000); sys.stderr.write('y' * 200_000)\n    return 1",
    "hangs": """
import os, pathlib, signal, subprocess, sys, time
def probe():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])
    pathlib.Path(os.environ['PIDS']).write_text(f'{os.getpid()} {child.pid}')
    time.sleep(600)
""",
}


@pytest.fixture(autouse=True)
def probes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "made_up_probes"
    package.mkdir()
    for name, source in {"__init__": "", **PROBES}.items():
        (package / f"{name}.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PIDS", str(tmp_path / "pids"))
    monkeypatch.setattr(looking, "PROBES", "made_up_probes")


def asked(name: str) -> Answer:
    return ask(f"made_up_probes.{name}", LONG_S)


def gone(pid: int) -> bool:
    """Ended, within a while; a zombie that nobody has waited for yet counts."""
    for _ in range(int(20 * LONG_S)):
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


def test_facts_come_back_however_long_they_are() -> None:
    assert asked("fine") == Answer("a" * 300_000)


@pytest.mark.parametrize(
    ("name", "trouble"),
    [
        ("raises", "ValueError: no such thing"),
        ("exits", "SystemExit: 3"),
        ("crashes", "its process killed by SIGSEGV (about to crash)"),
        ("leaves", "its process ended with exit code 7"),
        ("no_such_probe", "ModuleNotFoundError: No module named 'made_up_probes.no_such_probe'"),
    ],
)
def test_what_goes_wrong_is_told(name: str, trouble: str) -> None:
    assert asked(name) == Answer(None, trouble)


def test_output_disturbs_nothing() -> None:
    assert asked("chatters") == Answer(1)


def test_what_hangs_is_cut_off_with_all_it_started(tmp_path: Path) -> None:
    stopped = threading.Event()
    answers: list[Answer] = []
    asking = threading.Thread(target=lambda: answers.append(ask("made_up_probes.hangs", LONG_S, stopped)))
    asking.start()
    while not (tmp_path / "pids").exists() or len((tmp_path / "pids").read_text().split()) < 2:
        asking.join(0.05)
    stopped.set()  # as an interrupt does; the limit takes the same way out
    asking.join()
    assert answers[0].facts is None
    assert all(gone(int(pid)) for pid in (tmp_path / "pids").read_text().split())


def test_the_limit_ends_it() -> None:
    assert ask("made_up_probes.hangs", 0.2) == Answer(None, "no answer within 0 s")


def check(probe: str, share: float = 1.0, **more: object) -> Check:
    def judge(facts: Facts) -> list[Finding]:
        return [Finding(probe, "ok", str(getattr(facts, probe))[:3], "fine")]

    return Check(probe, probe, share, (judge,), ("CPU ranks",), f"{probe} is not known")._replace(**more)


def test_a_hang_and_a_crash_cost_their_own_lines_only() -> None:
    report = check_machine(LONG_S, [[check("hangs", 0.002), check("crashes"), check("fine")]])
    found = {finding.name: finding for finding in report.findings}
    assert list(found) == ["hangs", "crashes", "fine"]
    assert [finding.level for finding in report.findings] == ["fail", "fail", "ok"]
    assert found["hangs"].found.startswith("cannot be checked: no answer within")
    assert "killed by SIGSEGV" in found["crashes"].found
    assert found["crashes"].fix.endswith("python -m dwdp_lab.doctor.ask made_up_probes.crashes")
    assert not report.carries["CPU ranks"]
    assert report.usable


def test_a_judge_that_raises_costs_its_line_only() -> None:
    def broken(_: Facts) -> list[Finding]:
        raise ZeroDivisionError("oh")

    report = check_machine(LONG_S, [[check("fine", judges=(broken,)), check("chatters")]])
    assert [(finding.level, finding.found) for finding in report.findings] == [
        ("fail", "cannot be checked: ZeroDivisionError: oh"),
        ("ok", "1"),
    ]


def test_when_the_time_is_over_the_rest_is_not_begun() -> None:
    report = check_machine(1e-6, [[check("fine")]])
    assert report.findings[0].found == "cannot be checked: not looked at: the 0 s for all checks were over"


def test_an_interrupt_ends_the_probes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupting:
        """A thread pool whose caller is interrupted while the probe runs."""

        def __init__(self, _: int) -> None:
            self.threads: list[threading.Thread] = []

        def __enter__(self) -> Interrupting:
            return self

        def map(self, call: object, checks: list[Check]) -> list[Answer]:
            assert callable(call)
            self.threads = [threading.Thread(target=call, args=(each,)) for each in checks]
            for thread in self.threads:
                thread.start()
            while not (tmp_path / "pids").exists() or len((tmp_path / "pids").read_text().split()) < 2:
                self.threads[0].join(0.05)
            raise KeyboardInterrupt

        def __exit__(self, *_: object) -> None:
            for thread in self.threads:
                thread.join()

    monkeypatch.setattr(looking, "ThreadPoolExecutor", Interrupting)
    with pytest.raises(KeyboardInterrupt):
        check_machine(LONG_S, [[check("hangs")]])
    assert all(gone(int(pid)) for pid in (tmp_path / "pids").read_text().split())


def test_by_hand_a_probe_prints_its_facts() -> None:
    command = [sys.executable, "-m", "dwdp_lab.doctor.ask", "made_up_probes.chatters"]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\n1\n")
