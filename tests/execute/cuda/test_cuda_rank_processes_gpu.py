"""Processes and memory of GPU ranks on real GPUs: how they start, what they hold, and that nothing is left of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from gpu_ranks import NEEDS_GPUS, QWEN, hashes, qwen

from dwdp_lab.execute.cuda.gpu_memory import PROCESS_BYTES
from dwdp_lab.execute.failures import RankFailed
from dwdp_lab.execute.ranks import Ranks
from dwdp_lab.program.memory import ledger
from dwdp_lab.scenario.scenario import Scenario

pytestmark = NEEDS_GPUS

GB = 1e9


def test_two_ranks_are_ready() -> None:
    began = time.monotonic()
    with Ranks(2, machine="cuda") as group:
        print(f"\ntwo ranks ready after {time.monotonic() - began:.1f} s (15 s are allowed)")
        assert group.alive


def test_sensor_processes_are_waited_for() -> None:
    """One for each GPU, and not even a zombie of them where nobody waits for processes whose parent is gone."""
    with Ranks(2, machine="cuda") as group:
        started = [child for pid in group.pids for child in psutil.Process(pid).children()]
        sensors = [child for child in started if any("sensor_process" in word for word in child.cmdline())]
        assert len(sensors) == min(2, torch.cuda.device_count())
    assert not any(psutil.pid_exists(one.pid) for one in sensors)


def test_a_whole_model_s_memory_is_the_ledger_s() -> None:
    """48 layers of Qwen3-30B-A3B; `embeddings` are no part of what ranks keep."""
    preset = Scenario.create(model=QWEN, group={"ranks": 2})
    work = preset.replace(workload={"kind": "explicit", "lengths": [[4096], [4096]]})
    entries = ledger(work, "dwdp")
    each = entries.total - entries.embeddings
    sharing = -(-2 // torch.cuda.device_count())
    free, _ = torch.cuda.mem_get_info(0)
    if free < sharing * (each + 2 * GB):
        pytest.skip(f"{sharing * each / GB:.0f} GB of GPU memory are needed, {free / GB:.0f} GB are free")
    with Ranks(2, machine="cuda") as group:
        result = group.run(work)
    told = result.timeline.environment["memory_bytes"]
    used = next(one for one in (told if isinstance(told, list) else [told]) if one is not None)
    others = (sharing - 1) * PROCESS_BYTES  # what the GPU itself keeps for the processes beside the one that tells
    print(f"\nledger {sharing * each / GB:.2f} GB, in use {used / GB:.2f} GB, {result.run_us} us a step")
    assert used == pytest.approx(sharing * each + others, rel=0.02)


CALLER = """
import sys, threading
sys.path[:0] = {paths!r}
from gpu_ranks import qwen
from dwdp_lab.execute.ranks import Ranks

ranks = Ranks(2, machine="cuda")
work = qwen(8, 4096)
ranks.run(work)
print(*ranks.pids, flush=True)
{then}
"""


@pytest.mark.parametrize("then", ["threading.Event().wait()", "while True: ranks.run(work)"], ids=["idle", "running"])
def test_ranks_of_a_killed_caller_give_the_memory_back(then: str) -> None:
    before = free_bytes()
    paths = [str(Path(__file__).parent), str(Path(__file__).parent.parent), str(Path(__file__).parents[2])]
    code = CALLER.format(paths=paths, then=then)
    caller = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert caller.stdout is not None
    pids = [int(word) for word in caller.stdout.readline().split()]
    assert len(pids) == 2
    held = before - free_bytes()
    assert held > 2 * GB
    caller.kill()
    killed = time.monotonic()
    caller.communicate()
    deadline = killed + 60
    while before - free_bytes() > 0.05 * held and time.monotonic() < deadline:
        time.sleep(0.02)
    print(f"\n{held / GB:.1f} GB given back after {time.monotonic() - killed:.2f} s (5 s are allowed)")
    assert before - free_bytes() <= 0.05 * held
    assert all(gone(pid) for pid in pids)


def gone(pid: int) -> bool:
    """Ended; where nobody asks how, as in some containers, a zombie stays."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def free_bytes() -> int:
    """Of all GPUs together."""
    return sum(torch.cuda.mem_get_info(index)[0] for index in range(torch.cuda.device_count()))


def test_a_rank_that_dies_is_named_and_the_next_run_starts_again() -> None:
    work = qwen(8, 4096)
    with Ranks(2, machine="cuda") as group:
        expected = hashes(group, work)

        def kill(*_: Any) -> None:
            os.kill(group.pids[1], signal.SIGKILL)

        with pytest.raises(RankFailed, match="rank 1: killed by SIGKILL"):
            group.run(work.with_strategy("dep"), progress=kill)
        assert not group.alive
        assert hashes(group, work) == expected
