"""Runs in the background: progress, one waiting run at most, stopping, and the way out of a failure."""

from __future__ import annotations

import re
import threading

import pytest
from machines_for_tests import LONG_S, Patient

from dwdp_lab.execute.failures import RankFailed
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.timeline.span import Timeline
from dwdp_lab.view.control.runs import Runs, RunState

ONE, TWO, THREE = (Scenario.create(workload={"seed": seed}) for seed in (1, 2, 3))


class Told:
    """What a panel would have shown."""

    def __init__(self) -> None:
        self.states: list[RunState] = []
        self.results: list[tuple[Scenario, dict[str, Timeline]]] = []
        self.runs = Runs(self.states.append, lambda scenario, results: self.results.append((scenario, results)))


def test_results_come_with_progress_and_the_state_ends_idle() -> None:
    told, machine = Told(), Patient()
    machine.go_on.set()
    told.runs.start(machine, ONE, ["dep", "dwdp"])
    assert told.runs.wait(LONG_S)
    [(scenario, results)] = told.results
    assert scenario == ONE
    assert list(results) == ["dep", "dwdp"]
    assert told.states[0].phase == "running"
    assert any(state.share == 0.5 and state.doing == "half done" for state in told.states)
    assert told.runs.state == RunState(doing="done")


def test_of_the_runs_asked_for_meanwhile_only_the_last_is_made() -> None:
    told, machine = Told(), Patient()
    told.runs.start(machine, ONE, ["dwdp"])
    assert machine.began.wait(LONG_S)
    told.runs.start(machine, TWO, ["dwdp"])
    told.runs.start(machine, THREE, ["dwdp"])
    assert told.states[-1].waiting
    machine.go_on.set()
    assert told.runs.wait(LONG_S)
    assert [scenario for scenario, _ in machine.ran] == [ONE, THREE]


def test_a_run_that_begins_the_moment_the_stopped_one_has_ended_is_not_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told, machine = Told(), Patient()
    wait, next_began = told.runs._dispatcher.wait, threading.Event()

    def late(timeout_s: float | None = None) -> bool:
        """Who stops looks again only when the next run has begun."""
        if threading.current_thread().name == "control room stop":
            assert next_began.wait(LONG_S)
        return wait(timeout_s)

    monkeypatch.setattr(told.runs._dispatcher, "wait", late)
    told.runs.start(machine, ONE, ["dwdp"])
    assert machine.began.wait(LONG_S)
    told.runs.stop()
    assert wait(LONG_S)
    machine.began.clear()
    told.runs.start(machine, TWO, ["dwdp"])
    assert machine.began.wait(LONG_S)
    next_began.set()
    for thread in threading.enumerate():
        if thread.name == "control room stop":
            thread.join(LONG_S)
            assert not thread.is_alive()  # it has not waited for the next run to end
    machine.go_on.set()
    assert wait(LONG_S)
    assert machine.stops == 1
    assert [scenario for scenario, _ in told.results] == [TWO]


def test_stop_ends_the_run_forgets_the_waiting_one_and_leaves_the_next_one_alone() -> None:
    told, machine = Told(), Patient()
    told.runs.start(machine, ONE, ["dwdp"])
    assert machine.began.wait(LONG_S)
    told.runs.start(machine, TWO, ["dwdp"])
    told.runs.stop()
    told.runs.stop()  # twice is no more than once
    assert any(state.phase == "stopping" for state in told.states)
    assert told.runs.wait(LONG_S)
    assert told.runs.state == RunState(doing="stopped")
    assert not told.results
    machine.go_on.set()
    told.runs.start(machine, THREE, ["dwdp"])
    assert told.runs.wait(LONG_S)
    assert [scenario for scenario, _ in told.results] == [THREE]
    told.runs.stop()  # nothing runs
    assert told.runs.state.doing == "done"


def test_a_stop_also_reaches_a_run_that_is_only_about_to_begin() -> None:
    for _ in range(20):
        told, machine = Told(), Patient()
        machine.stops = 1
        told.runs.start(machine, ONE, ["dwdp"])
        told.runs.stop()
        assert told.runs.wait(LONG_S)
        assert not told.results


@pytest.mark.parametrize(
    ("error", "says", "advice"),
    [
        (RankFailed(1, "Traceback ...\nValueError: no", "its log"), "ValueError: no", "Rank 1 failed.*Run starts new"),
        (RankFailed(None, "killed by SIGKILL"), "killed by SIGKILL", "The launcher failed"),
        (ScenarioError("model.dtype", "fp8", "not on ranks"), "model.dtype = 'fp8'", "Turn that knob"),
        (ZeroDivisionError("oops"), "ZeroDivisionError: oops", "Nothing runs now"),
    ],
)
def test_a_run_that_fails_says_what_happened_and_the_way_out(error: BaseException, says: str, advice: str) -> None:
    told, machine = Told(), Patient()
    machine.fails = error
    machine.go_on.set()
    told.runs.start(machine, ONE, ["dwdp"])
    assert told.runs.wait(LONG_S)
    assert says in told.runs.state.trouble
    assert told.runs.state.phase == "idle"
    assert re.search(advice, told.runs.state.advice)
    machine.fails = None
    told.runs.start(machine, TWO, ["dwdp"])
    assert told.runs.wait(LONG_S)
    assert not told.runs.state.trouble
    assert len(told.results) == 1


def test_after_closing_nothing_is_told_or_taken() -> None:
    told, machine = Told(), Patient()
    told.runs.start(machine, ONE, ["dwdp"])
    assert machine.began.wait(LONG_S)
    told.runs.close([machine])
    count = len(told.states)
    told.runs.start(machine, TWO, ["dwdp"])
    assert told.runs.wait(LONG_S)
    assert machine.stops >= 1
    assert len(machine.ran) == 1
    assert len(told.states) == count
