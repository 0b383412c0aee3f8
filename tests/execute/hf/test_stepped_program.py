"""A program taken forward by a model's calls: it keeps the order that the checker has proven free of races."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest
from any_scenario import scenarios
from hypothesis import given, settings

from dwdp_lab.execute.hf.stepped_program import BY_THE_MODEL, SteppedProgram, compute_turns
from dwdp_lab.execute.report import of_steps
from dwdp_lab.program.build import build
from dwdp_lab.program.operation import Op, awaited
from dwdp_lab.scenario.scenario import Scenario


def one_pass(scenario: Scenario, rank: int = 0) -> tuple[Op, ...]:
    ops = build(scenario)[rank].ops
    return of_steps(ops, {ops[0].step}) if ops else ()


def small(**strategy: object) -> Scenario:
    return Scenario.create(model={"preset": "tiny", "layers": 3}, strategy=strategy)


@settings(deadline=None, max_examples=60)
@given(scenario=scenarios(("replicated", "dwdp")))
def test_whatever_the_knobs_every_operation_keeps_its_order(scenario: Scenario) -> None:
    for rank in range(scenario.ranks):
        ops = one_pass(scenario, rank)
        performed: list[Op] = []
        program = SteppedProgram(ops, performed.append)
        for layer in [op.layer for op in ops if op.kind == "experts"]:
            program.experts(layer)
            assert next(op for op in reversed(performed) if op.lane == "compute").layer == layer
        times = program.end()
        assert Counter(performed) == Counter(op for op in ops if op.kind not in BY_THE_MODEL)
        last: dict[str, int] = {}
        for index, (op, waits) in enumerate(zip(ops, awaited(ops), strict=True)):
            before = [*waits, *([last[op.lane]] if op.lane in last else [])]
            if op.kind not in BY_THE_MODEL:  # of these it is only known when the model had done them
                assert all(times[earlier].end_ns <= times[index].start_ns for earlier in before)
            last[op.lane] = index
            assert times[index].start_ns <= times[index].end_ns


def test_the_first_pulls_start_before_the_model_asks_for_anything() -> None:
    ops = one_pass(small(slots=2))
    pulled: list[int] = []
    both = threading.Event()

    def perform(op: Op) -> None:
        if op.kind == "pull":
            pulled.append(op.layer)
            if len(pulled) == 2:
                both.set()

    program = SteppedProgram(ops, perform)
    assert both.wait(10)
    assert pulled == [0, 1]  # there is no slot for a third before the first experts have been computed
    for layer in range(3):
        program.experts(layer)
    program.end()
    assert pulled == [0, 1, 2]


def test_experts_wait_for_their_pull() -> None:
    ops = one_pass(small(slots=1))
    let_go, order = threading.Event(), []

    def perform(op: Op) -> None:
        if op.kind == "pull" and op.layer == 0:
            assert let_go.wait(10)
        order.append((op.kind, op.layer))

    program = SteppedProgram(ops, perform)
    threading.Timer(0.05, let_go.set).start()
    program.experts(0)
    assert order[:2] == [("pull", 0), ("experts", 0)]
    program.experts(1)
    program.experts(2)
    program.end()


def test_a_model_that_goes_another_way_is_stopped() -> None:
    ops = one_pass(small())
    program = SteppedProgram(ops, lambda _: None)
    with pytest.raises(RuntimeError, match=r"experts of layer 1, while those of layer 0 are next in its program"):
        program.experts(1)
    program = SteppedProgram(ops, lambda _: None)
    for layer in range(2):
        program.experts(layer)
    with pytest.raises(RuntimeError, match=r"without asking for the experts of layer 2"):
        program.end()
    program = SteppedProgram(ops, lambda _: None)
    for layer in range(3):
        program.experts(layer)
    with pytest.raises(RuntimeError, match=r"experts of layer 0, while nothing is next"):
        program.experts(0)


def test_what_goes_wrong_in_the_copy_lane_is_raised_where_it_is_waited_for() -> None:
    def perform(op: Op) -> None:
        if op.kind == "pull" and op.layer == 1:
            raise OSError("the peer is gone")

    program = SteppedProgram(one_pass(small(slots=1)), perform)
    program.experts(0)
    with pytest.raises(OSError, match="the peer is gone"):
        program.experts(1)


def test_a_program_that_goes_on_after_the_last_experts_is_refused() -> None:
    ops = one_pass(small(weight_view="merged"))
    merge = next(op for op in ops if op.kind == "merge")
    with pytest.raises(ValueError, match="the merge of layer 0, step 0 comes after the last experts"):
        compute_turns([*ops, ops[0], merge])


def test_dense_layers_after_the_last_experts_are_done_when_the_pass_has_ended() -> None:
    model = {"preset": "tiny", "layers": 4, "more_dense_layers": [1, 3], "dense_intermediate": 64}
    ops = one_pass(Scenario.create(model=model))
    program = SteppedProgram(ops, lambda _: None)
    for layer in (0, 2):
        program.experts(layer)
    before_ns = time.monotonic_ns()
    times = program.end()
    (last, dense) = [time for op, time in zip(ops, times, strict=True) if op.lane == "compute" and op.layer == 3]
    experts = next(time for op, time in zip(ops, times, strict=True) if (op.kind, op.layer) == ("experts", 2))
    assert last.start_ns == experts.end_ns
    assert last.end_ns == dense.start_ns == dense.end_ns >= before_ns
