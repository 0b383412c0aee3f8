"""Starting and stopping rank processes, again and again and in both ways."""

from __future__ import annotations

import gc
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from rank_scenarios import ODD_MODEL, scenario
from start_stop_cycles import start_stop_cycles

from dwdp_lab.execute.ranks import Ranks

pytestmark = pytest.mark.ranks


def test_start_and_stop_leave_nothing() -> None:
    cycles = start_stop_cycles(3)
    assert not cycles.left_behind, cycles


def test_torchrun_starts_the_same_ranks() -> None:
    work = scenario(2, [[3], [5]])
    with Ranks(2, launcher="torchrun") as ranks:
        result = ranks.run(work)
        assert result.output_sha256 == ranks.run(work.with_strategy("replicated")).output_sha256
        assert result.timeline.environment["launcher"] == "torchrun"
        ranks.run(work.with_strategy("dep"))
        pids = ranks.pids
        folder = ranks._group.folder if ranks._group is not None else None
        assert len(set(pids)) == 2
    assert folder is not None
    assert not folder.exists()


def test_starting_twice_keeps_the_processes_and_restart_replaces_them(two_ranks: Ranks) -> None:
    before = two_ranks.start().pids
    assert two_ranks.start().pids == before
    assert two_ranks.alive
    after = two_ranks.restart().pids
    assert not set(before) & set(after)


def test_a_session_starts_ranks_without_loading_torch() -> None:
    """So it is ready when they are, and a notebook's kernel stays small."""
    code = "import sys\nfrom dwdp_lab.execute.ranks import Ranks\nwith Ranks(1):\n    print('torch' in sys.modules)\n"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"


def test_stop_can_be_repeated() -> None:
    ranks = Ranks(1)
    ranks.stop()
    ranks.start()
    ranks.stop()
    ranks.stop()
    assert not ranks.alive


def test_ranks_that_are_not_in_use_end_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that they end what they have started: nobody waits for the children of a process that is killed."""
    monkeypatch.setattr("dwdp_lab.execute.rank_group.END_S", 60.0)  # however busy this machine is
    ranks = Ranks(2).start()
    assert ranks._group is not None
    processes = ranks._group.processes
    ranks.stop()
    assert [process.returncode for process in processes] == [0, 0]


def test_a_dropped_group_ends() -> None:
    """As when a notebook's first cell runs again."""
    ranks = Ranks(1).start()
    (pid,) = ranks.pids
    assert psutil.pid_exists(pid)
    del ranks
    gc.collect()
    assert not psutil.pid_exists(pid)


def test_the_run_folder_is_private_and_ranks_lead_their_own_session(two_ranks: Ranks) -> None:
    two_ranks.start()
    assert two_ranks._group is not None
    assert stat.S_IMODE(two_ranks._group.folder.stat().st_mode) == 0o700
    for pid in two_ranks.pids:
        assert os.getsid(pid) == pid != os.getsid(0)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs Linux's /proc")
def test_weights_are_kept_between_runs(two_ranks: Ranks) -> None:
    """The same files stay open, and no more come: the shard is neither made nor mapped again."""
    work = scenario(2, [[3], [5]])
    two_ranks.run(work)
    opened = [len(os.listdir(f"/proc/{pid}/fd")) for pid in two_ranks.pids]
    for _ in range(3):
        two_ranks.run(work)
    assert [len(os.listdir(f"/proc/{pid}/fd")) for pid in two_ranks.pids] == opened


def blocks_of(pid: int) -> dict[str, int]:
    """The blocks of shared memory that a process maps, by inode: bytes of its addresses that show one."""
    found: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        place, _, _, _, inode, *name = line.split()
        if name and "dwdp" in name[0]:
            start, end = (int(address, 16) for address in place.split("-"))
            found[inode] = found.get(inode, 0) + end - start
    return found


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs Linux's /proc")
def test_slots_go_with_their_run_and_weights_with_their_model(two_ranks: Ranks) -> None:
    """A lab in which one changes strategies and models all day holds no more memory than after its first round."""
    odd = scenario(2, [[3], [5]], model=ODD_MODEL)
    round_of_runs = [
        *(odd.replace(**{"strategy.weight_view": view, "strategy.slots": 3}) for view in ("composite", "merged")),
        *(odd.with_strategy(name) for name in ("replicated", "dep", "tensor", "replicated", "tensor")),
        scenario(2, [[3], [5]], **{"workload.seed": 3}),
        odd,
    ]
    held = []
    for _ in range(3):
        for work in round_of_runs:
            two_ranks.run(work)
        held.append([(len(os.listdir(f"/proc/{pid}/fd")), sorted(blocks_of(pid).values())) for pid in two_ranks.pids])
    assert held[1] == held[2] == held[0]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs Linux's /proc")
def test_a_rank_holds_all_experts_only_where_its_strategy_asks_for_them(two_ranks: Ranks) -> None:
    """Every seed is another model, so that nothing is kept of the run before."""
    for seed, (name, blocks) in enumerate({"replicated": 1, "dep": 2, "dwdp": 2, "weight_gather": 2}.items(), 20):
        two_ranks.run(scenario(2, [[3], [5]], **{"workload.seed": seed, "strategy.name": name}))
        mapped = [blocks_of(pid) for pid in two_ranks.pids]
        assert [len(found) for found in mapped] == [blocks] * 2, name  # all experts; or one's own shard and the peer's
        assert (mapped[0].keys() == mapped[1].keys()) is (name != "replicated")


def test_a_forked_child_leaves_the_ranks_and_their_folder_alone(two_ranks: Ranks) -> None:
    group = two_ranks.start()._group
    assert group is not None
    code = os.EX_OK
    if (child := os.fork()) == 0:
        try:
            two_ranks.stop()  # what this object's finalizer does when the child exits
            code = os.EX_OK if not two_ranks.alive else os.EX_SOFTWARE
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert group.folder.exists()
    work = scenario(2, [[3], [5]])
    assert len(two_ranks.run(work.with_strategy("dep")).output_sha256) == 2


def test_ranks_end_with_a_killed_caller_also_when_a_child_of_it_lives() -> None:
    code = """if True:
        import os, time
        from dwdp_lab.execute.ranks import Ranks
        ranks = Ranks(2).start()
        child = os.fork()
        if child:
            print(child, *ranks.pids, flush=True)
        time.sleep(60)
    """
    caller = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert caller.stdout is not None
    child, *pids = map(int, caller.stdout.readline().split())
    caller.kill()
    caller.wait()
    caller.stdout.close()
    deadline = time.monotonic() + 10
    while any(map(psutil.pid_exists, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert psutil.pid_exists(child)
    assert not any(map(psutil.pid_exists, pids))
    os.kill(child, 9)


def test_a_progress_callback_cannot_run_on_the_same_ranks(two_ranks: Ranks) -> None:
    work = scenario(2, [[3], [5]])
    with pytest.raises(RuntimeError, match="progress callback"):
        two_ranks.run(work, progress=lambda *_: two_ranks.run(work) and None)
    assert len(two_ranks.run(work).output_sha256) == 2
