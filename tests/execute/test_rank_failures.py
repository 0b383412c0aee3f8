"""However a run ends, the caller hears why and no process is left."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from rank_scenarios import endless, scenario

from dwdp_lab.execute.failures import RankFailed, RunStopped
from dwdp_lab.execute.ranks import Ranks
from dwdp_lab.program.build import build
from dwdp_lab.program.checker import ProgramError
from dwdp_lab.program.operation import Op, Program
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario

pytestmark = pytest.mark.ranks


@pytest.fixture(scope="module")
def ranks() -> Iterator[Ranks]:
    """A group that each test brings down; the next run starts it again."""
    group = Ranks(2)
    yield group
    group.stop()


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def eventually(true: Callable[[], bool]) -> bool:
    """Whether it becomes true; how long that takes is not what is tested."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.01)
    return False


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs reach the ranks whatever the checker says of them."""
    monkeypatch.setattr("dwdp_lab.execute.ranks.verify", lambda *_: None)


def broken(work: Scenario, rank: int) -> tuple[Program, ...]:
    """The scenario's programs, with a layer that does not exist first on one rank."""
    programs = list(build(work))
    first = Op("attention", "compute", 0, 99)
    programs[rank] = replace(programs[rank], ops=(first, *programs[rank].ops))
    return tuple(programs)


def when_running(ranks: Ranks, work: Scenario, do: Callable[[], Any]) -> None:
    """Run, and do something in another thread once the ranks are at it."""
    acting = threading.Thread(target=do)
    try:
        ranks.run(work, progress=lambda *_: None if acting.ident else acting.start())
    finally:
        acting.join()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("strategy", ["dwdp", "dep"])
def test_an_exception_reaches_the_caller_while_the_others_are_busy(ranks: Ranks, strategy: str) -> None:
    """Rank 0 is in a copy that takes minutes, or in a collective that never ends."""
    work = endless().replace(**{"strategy.name": strategy})
    ranks.start()
    pids = ranks.pids
    with pytest.raises(RankFailed) as caught:
        ranks.run(work, programs=broken(work, 1))
    assert caught.value.rank == 1
    assert "KeyError: 99" in caught.value.traceback_text
    assert "while running attention of layer 99, step 0" in caught.value.traceback_text
    assert not ranks.alive
    assert all(gone(pid) for pid in pids)


@pytest.mark.usefixtures("unchecked")
def test_after_a_failure_the_next_run_starts_again(ranks: Ranks) -> None:
    work = scenario(2, [[3], [5]])
    with pytest.raises(RankFailed):
        ranks.run(work, programs=broken(work, 0))
    assert ranks.run(work).output_sha256 == ranks.run(work.with_strategy("replicated")).output_sha256


def test_a_killed_rank_is_named_with_its_signal_and_log(ranks: Ranks) -> None:
    ranks.start()
    with pytest.raises(RankFailed, match="rank 1: killed by SIGSEGV") as caught:
        when_running(ranks, endless(), lambda: os.kill(ranks.pids[1], signal.SIGSEGV))
    assert caught.value.rank == 1
    assert "Segmentation fault" in caught.value.log_tail
    assert not ranks.alive


def test_a_rank_that_dies_is_named_not_those_whose_collective_it_broke(ranks: Ranks) -> None:
    ranks.run(scenario(2, [[8]] * 2, **{"strategy.name": "dep"}))  # they are connected now
    with pytest.raises(RankFailed, match="rank 1: killed by SIGKILL"):
        when_running(
            ranks,
            scenario(2, [[4000]] * 2, **{"strategy.name": "dep"}),
            lambda: os.kill(ranks.pids[1], signal.SIGKILL),
        )


def test_a_rank_that_died_between_runs_is_replaced(ranks: Ranks) -> None:
    ranks.start()
    pids = ranks.pids
    os.kill(pids[0], signal.SIGKILL)
    assert eventually(lambda: not ranks.alive)
    assert len(ranks.run(scenario(2, [[3], [5]])).output_sha256) == 2
    assert ranks.pids != pids


def test_stop_from_another_thread_ends_the_run(ranks: Ranks) -> None:
    ranks.start()
    pids = ranks.pids
    with pytest.raises(RunStopped):
        when_running(ranks, endless(), ranks.stop)
    assert not ranks.alive
    assert all(gone(pid) for pid in pids)
    assert len(ranks.run(scenario(2, [[3], [5]])).output_sha256) == 2


def test_stop_in_the_progress_callback_ends_the_run(ranks: Ranks) -> None:
    with pytest.raises(RunStopped):
        ranks.run(endless(), progress=lambda *_: ranks.stop())
    assert not ranks.alive


def test_stop_while_starting() -> None:
    ranks = Ranks(2)
    heard: list[BaseException] = []

    def start() -> None:
        try:
            ranks.start()
        except RunStopped as stopped:
            heard.append(stopped)

    starting = threading.Thread(target=start)
    starting.start()
    assert eventually(lambda: ranks._group is not None and bool(ranks._group.processes))
    ranks.stop()
    starting.join()
    assert len(heard) == 1
    assert not ranks.alive
    assert ranks.pids == ()


def test_an_exception_in_the_progress_callback_leaves_no_process(ranks: Ranks) -> None:
    ranks.start()
    pids = ranks.pids

    def fail(share: float, doing: str) -> None:
        raise KeyError(share, doing)

    with pytest.raises(KeyError):
        ranks.run(endless(), progress=fail)
    assert all(gone(pid) for pid in pids)


def test_a_rank_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('this torch is broken')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(RankFailed, match="this torch is broken"):
        Ranks(1).start()


def test_a_rank_that_ends_without_connecting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dwdp_lab.execute.launch.WORKER", "this")  # the Zen of Python
    with pytest.raises(RankFailed, match="rank 0: ended with exit code 0") as caught:
        Ranks(1).start()
    assert "Beautiful is better than ugly" in caught.value.log_tail


def test_a_rank_that_takes_too_long_is_named_and_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sleeper.py").write_text("import time\ntime.sleep(600)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("dwdp_lab.execute.launch.WORKER", "sleeper")
    ranks = Ranks(1, start_timeout_s=0.3)
    with pytest.raises(RankFailed, match=r"rank 0: did not connect within 0.3 s"):
        ranks.start()
    assert not [child for child in psutil.Process().children() if "sleeper" in child.cmdline()]


def test_refused_before_anything_starts() -> None:
    ranks = Ranks(2)
    with pytest.raises(ScenarioError, match=r"group\.ranks = "):
        ranks.run(scenario(3, [[1]] * 3))
    with pytest.raises(ScenarioError, match=r"model\.expert_dtype = "):
        ranks.run(scenario(2, [[1]] * 2, **{"model.expert_dtype": "nvfp4"}))
    with pytest.raises(ScenarioError, match=r"model\.attention\.kind = "):
        ranks.run(Scenario.create(model="deepseek-r1"))
    with pytest.raises(ScenarioError, match=r"workload\.file = "):
        ranks.run(Scenario.create(model="tiny", workload={"kind": "trace", "file": "nowhere.csv"}))
    with pytest.raises(ScenarioError, match=r"group\.ranks = "):
        Ranks(0)
    with pytest.raises(ScenarioError, match="allowed are processes, torchrun"):
        Ranks(2, launcher="mpirun")  # type: ignore[arg-type]
    work = scenario(2, [[1]] * 2)
    without_first_pull = [replace(program, ops=program.ops[1:]) for program in build(work)]
    with pytest.raises(ProgramError, match="signals"):
        ranks.run(work, programs=without_first_pull)
    assert not ranks.alive
    assert ranks.pids == ()


CALLER = """
import signal, sys, threading
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and tests may be one
sys.path.insert(0, {tests!r})
from rank_scenarios import endless, scenario
from dwdp_lab.execute.ranks import Ranks

ranks = Ranks(2)
ranks.start()
print(*ranks.pids, ranks._group.folder, flush=True)
{then}
"""


def caller(then: str) -> tuple[subprocess.Popen[str], list[int], Path]:
    """A Python session of its own that has started ranks: its process, their pids and folder."""
    code = CALLER.format(tests=str(Path(__file__).parent), then=then)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    *pids, folder = process.stdout.readline().split()
    return process, [int(pid) for pid in pids], Path(folder)


@pytest.mark.parametrize(
    "then",
    [
        "input_never = threading.Event().wait()",
        "ranks.run(endless(), progress=lambda *_: print('running', flush=True))",
    ],
    ids=["idle", "running"],
)
def test_ranks_of_a_killed_caller_end_and_leave_nothing(then: str) -> None:
    process, pids, folder = caller(then)
    if "running" in then:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
    assert folder.is_dir()
    assert not any(gone(pid) for pid in pids)
    process.kill()
    process.communicate()
    assert eventually(lambda: all(gone(pid) for pid in pids))
    assert eventually(lambda: not folder.exists())


def test_an_interrupt_ends_the_run_and_then_the_ranks() -> None:
    """As a notebook's interrupt button does, to the whole process group."""
    process, pids, folder = caller(
        "try:\n"
        "    ranks.run(endless(), progress=lambda *_: print('running', flush=True))\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', ranks.alive, ranks.run(scenario(2, [[3], [5]])).timeline.strategy, flush=True)\n"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate()
    assert output.endswith("interrupted False dwdp\n")  # what was being printed may stand before it
    assert process.returncode == 0
    assert all(gone(pid) for pid in pids)
    assert not folder.exists()


def test_an_interrupt_does_not_reach_idle_ranks() -> None:
    process, pids, folder = caller(
        "try:\n"
        "    print('waiting', flush=True)\n"
        "    threading.Event().wait()\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', ranks.alive, ranks.run(scenario(2, [[3], [5]])).timeline.strategy, flush=True)\n"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate()
    assert output.endswith("interrupted True dwdp\n")
    assert eventually(lambda: all(gone(pid) for pid in pids))  # the caller never stopped them
    assert not folder.exists()


def test_failures_survive_pickling() -> None:
    failure = pickle.loads(pickle.dumps(RankFailed(1, "Traceback: boom", "last words")))
    assert (failure.rank, failure.traceback_text, failure.log_tail) == (1, "Traceback: boom", "last words")
    assert str(failure) == "rank 1: Traceback: boom\n--- last lines of its log ---\nlast words"
