"""The room on real rank processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import psutil
import pytest

from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.view import ControlRoom

pytestmark = pytest.mark.ranks
LONG_S = 90.0


@pytest.fixture
def room() -> Iterator[ControlRoom]:
    made = ControlRoom(Scenario.create(workload={"tokens_per_rank": 256}), machine="cpu")
    yield made
    made.close()


def alive(pids: tuple[int, ...]) -> list[int]:
    return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]


def test_runs_are_measured_and_the_ranks_stay_until_they_are_stopped(room: ControlRoom) -> None:
    room.run()
    assert room.wait(LONG_S)
    assert not room.state.trouble
    assert [timeline.provenance for timeline in room.timelines] == ["measured", "measured"]
    pids = room.machines["cpu"].pids
    assert len(alive(pids)) == 2
    room.turn(slots=3)
    room.run()
    assert room.wait(LONG_S)
    assert room.machines["cpu"].pids == pids
    assert len(room.history.runs) == 4
    room.turn(ranks=3)
    room.run()
    assert room.wait(LONG_S)
    assert not alive(pids)
    pids = room.machines["cpu"].pids
    assert len(alive(pids)) == 3
    ControlRoom().close()  # running the first cell again
    assert not alive(pids)


def test_stop_leaves_no_process_and_the_next_run_works(room: ControlRoom) -> None:
    room.turn(tokens=65536)
    room.run()
    while len(room.machines["cpu"].pids) < 2:
        assert not room._runs.wait(0.02)
    pids = room.machines["cpu"].pids
    room.stop()
    assert room.wait(LONG_S)
    assert room.state.doing == "stopped"
    assert not alive(pids)
    assert not room.history.runs
    room.turn(tokens=256)
    room.run()
    assert room.wait(LONG_S)
    assert len(room.history.runs) == 2, (room.state, room.face.trouble.value)


def test_a_rank_that_is_killed_is_told_and_the_next_run_works(room: ControlRoom) -> None:
    room.turn(tokens=65536)
    room.run()
    while len(room.machines["cpu"].pids) < 2:
        assert not room._runs.wait(0.02)
    os.kill(room.machines["cpu"].pids[1], signal.SIGKILL)
    assert room.wait(LONG_S)
    assert room.state.doing == "failed"
    assert "rank 1" in room.face.trouble.value
    assert "Run starts new ones" in room.face.trouble.value
    room.turn(tokens=256)
    room.run()
    assert room.wait(LONG_S)
    assert not room.state.trouble


def test_idle_ranks_are_let_go() -> None:
    made = ControlRoom(Scenario.create(workload={"tokens_per_rank": 64}), machine="cpu", compared="alone", idle_s=0.0)
    made.run()
    assert made.wait(LONG_S)
    assert len(made.history.runs) == 1
    while made.machines["cpu"].pids:
        made._runs.wait(0.01)
    made.close()
