from __future__ import annotations

import threading
import time

import pytest

from dwdp_lab.execute.cpu.lanes import LaneRun
from dwdp_lab.program.build import build
from dwdp_lab.program.operation import Lane, Op
from dwdp_lab.scenario.scenario import Scenario


def op(lane: Lane, layer: int, waits: tuple[str, ...] = (), signals: str | None = None) -> Op:
    return Op("route", lane, 0, layer, waits, signals)


def test_each_operation_starts_after_what_it_waits_for_and_after_its_lane() -> None:
    scenario = Scenario.create(
        model={"preset": "tiny", "layers": 6}, strategy={"slots": 2, "cross_step": True}, workload={"steps": 3}
    )
    program = build(scenario)[0]
    run = LaneRun(program.ops, lambda op: time.sleep(0.0001 * (op.layer % 3)))
    times = run.run(time.monotonic_ns())
    last_on_lane: dict[str, int] = {}
    for index, op in enumerate(program.ops):
        for awaited in run.waits[index]:
            assert times[awaited].end_ns <= times[index].start_ns
        if op.lane in last_on_lane:
            assert times[last_on_lane[op.lane]].end_ns <= times[index].start_ns
        last_on_lane[op.lane] = index
        assert times[index].start_ns <= times[index].end_ns


def test_lanes_run_at_the_same_time() -> None:
    """Neither lane could pass the barrier alone."""
    barrier = threading.Barrier(3, timeout=10)
    ops = (op("compute", 0), op("copy", 0), op("comm", 0))
    LaneRun(ops, lambda _: barrier.wait() and None).run(0)


def test_a_signal_given_again_is_the_last_one_before_the_wait() -> None:
    order: list[int] = []
    ops = (
        op("copy", 0, signals="pulled"),
        op("compute", 1, waits=("pulled",)),
        op("copy", 2, signals="pulled"),
        op("compute", 3, waits=("pulled",), signals="done"),
        op("comm", 4, waits=("done",)),
    )
    LaneRun(ops, lambda op: order.append(op.layer)).run(0)
    assert order.index(0) < order.index(1)
    assert order.index(2) < order.index(3) < order.index(4)


def test_nothing_starts_before_the_agreed_moment() -> None:
    start = time.monotonic_ns() + 30_000_000
    times = LaneRun((op("compute", 0), op("copy", 1)), lambda _: None).run(start)
    assert all(moment.start_ns >= start for moment in times)


def test_a_failing_lane_ends_the_run_and_names_the_operation() -> None:
    started: list[int] = []

    def perform(op: Op) -> None:
        started.append(op.layer)
        if op.layer == 1:
            raise ValueError("broken")

    ops = (op("compute", 0), op("copy", 1, signals="never"), op("compute", 2, waits=("never",)))
    with pytest.raises(ValueError, match="broken") as caught:
        LaneRun(ops, perform).run(0)
    assert caught.value.__notes__ == ["while running route of layer 1, step 0"]
    assert 2 not in started


def test_a_failure_is_not_held_up_by_a_lane_that_never_ends() -> None:
    release = threading.Event()

    def perform(op: Op) -> None:
        if op.lane == "comm":
            release.wait()
        else:
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        LaneRun((op("comm", 0), op("compute", 1)), perform).run(0)
    release.set()


def test_of_several_failures_the_first_is_told() -> None:
    """What fails after it, fails because of it: a collective whose peers have gone."""

    def perform(op: Op) -> None:
        if op.lane == "compute":
            raise ValueError("broken")
        while run._running > 1:
            time.sleep(0.001)
        raise ConnectionError("peers have gone")

    run = LaneRun((op("comm", 0), op("compute", 1)), perform)
    run.start(0, ("comm", "compute"))
    while run._running:
        time.sleep(0.001)
    with pytest.raises(ValueError, match="broken"):
        run.wait()


def test_each_operation_is_reported_once() -> None:
    seen: list[int] = []
    ops = tuple(op("compute", layer) for layer in range(4))
    LaneRun(ops, lambda _: None, lambda index, _: seen.append(index)).run(0)
    assert seen == [0, 1, 2, 3]


def test_an_empty_program_ends() -> None:
    assert LaneRun((), lambda _: None).run(0) == []
