"""What goes wrong between ranks: messages without their other end, in another order, in a circle; layers left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from any_scenario import scenarios
from hypothesis import given, settings
from hypothesis import strategies as st

from dwdp_lab.program.build import build
from dwdp_lab.program.checker import Hazard, ProgramError, check, verify
from dwdp_lab.program.operation import ALL_REDUCES, MESSAGES, Op, Program
from dwdp_lab.program.pipeline import pipeline
from dwdp_lab.program.rank_view import RankView, StrategyFunction
from dwdp_lab.program.tensor import tensor
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.cost import CostModel
from dwdp_lab.simulate.hardware import load_hardware
from dwdp_lab.simulate.machine import StuckError, run_programs


def _scenario(ranks: int = 3, **changes: Any) -> Scenario:
    fields = {"model.layers": 6, "workload.steps": 2, "workload.cv": 0.0, "strategy.name": "pipeline"} | changes
    return Scenario.create(model="tiny", group={"ranks": ranks}).replace(**fields)


def _found(strategy: StrategyFunction, scenario: Scenario | None = None) -> list[Hazard]:
    scenario = scenario or _scenario()
    return check(build(scenario, strategy), scenario)


Change = Callable[[RankView, list[Op]], list[Op]]


def _changed(change: Change) -> StrategyFunction:
    def strategy(rank: RankView) -> Iterator[Op]:
        return iter(change(rank, list(pipeline(rank))))

    return strategy


def _is(op: Op, kind: str, step: int, micro: int) -> bool:
    return (op.kind, op.step, op.micro) == (kind, step, micro)


def _forget_a_send(rank: RankView, ops: list[Op]) -> list[Op]:
    return [op for op in ops if not (rank.rank == 1 and _is(op, "send", 1, 2))]


def _forget_a_recv(rank: RankView, ops: list[Op]) -> list[Op]:
    """The states of step 0 are still there, but they are not those of step 1."""
    return [op for op in ops if not (rank.rank == 2 and _is(op, "recv", 0, 1))]


def _other_order(rank: RankView, ops: list[Op]) -> list[Op]:
    """The middle stage takes the second micro-batch first."""
    if rank.rank != 1:
        return ops
    first = [op for op in ops if (op.step, op.micro) == (0, 0)]
    second = [op for op in ops if (op.step, op.micro) == (0, 1)]
    return second + first + [op for op in ops if op not in first and op not in second]


def _back_to_front(rank: RankView, ops: list[Op]) -> list[Op]:
    return [op._replace(peer=0) if op.kind == "send" and rank.rank == 1 else op for op in ops]


def _to_nobody(rank: RankView, ops: list[Op]) -> list[Op]:
    return [op._replace(peer=3) if op.kind == "send" and rank.rank == 1 else op for op in ops]


def _do_not_wait(_: RankView, ops: list[Op]) -> list[Op]:
    return [op._replace(waits=()) if op.kind == "attention" else op for op in ops]


def _send_too_early(_: RankView, ops: list[Op]) -> list[Op]:
    return [op._replace(waits=()) if op.kind == "send" else op for op in ops]


def _leave_a_layer_out(_: RankView, ops: list[Op]) -> list[Op]:
    return [op for op in ops if op.layer != 3 or op.kind in MESSAGES]


def _stages_overlap(rank: RankView, ops: list[Op]) -> list[Op]:
    """The last stage computes its neighbour's last layer once more, from what came."""
    if rank.rank != 2:
        return ops
    done = []
    for op in ops:
        if op.kind == "attention" and op.layer == 4 and op.micro is not None:
            done += [
                rank.attention(op.step, 5, op.waits, micro=op.micro),
                rank.route(op.step, 5, micro=op.micro),
                rank.experts(op.step, 5, micro=op.micro),
            ]
        done.append(op)
    return done


def _one_micro_batch_too_many(rank: RankView, ops: list[Op]) -> list[Op]:
    return ops if rank.rank else [*ops, rank.attention(0, 0, micro=0)._replace(micro=3)]


def _one_without_its_number(_: RankView, ops: list[Op]) -> list[Op]:
    return [op._replace(micro=None) if _is(op, "route", 0, 1) and op.layer == 0 else op for op in ops]


def _pull_something(rank: RankView, ops: list[Op]) -> list[Op]:
    return [rank.pull(0, 3, 0, (), "pulled"), *ops]


@pytest.mark.parametrize(
    ("change", "fault", "words"),
    [
        (
            _forget_a_send,
            "mismatch",
            "recv of layer 4, step 1, micro-batch 2 waits for ever: rank 1 sends nothing more",
        ),
        (_forget_a_recv, "mismatch", "recv of layer 4, step 0, micro-batch 2 gets what rank 1 sends next, the send of"),
        (_forget_a_recv, "stale read", "attention of layer 4, step 0, micro-batch 1 reads 'hidden, step 0"),
        (
            _other_order,
            "mismatch",
            "recv of layer 2, step 0, micro-batch 1 gets what rank 0 sends next, the send of lay",
        ),
        (_back_to_front, "mismatch", "send of layer 4, step 0, micro-batch 0 waits for ever: rank 0 receives nothing"),
        (_to_nobody, "not there", "send of layer 4, step 0, micro-batch 0 is between this rank and rank 3; there are"),
        (
            _do_not_wait,
            "early read",
            "attention of layer 2, step 0, micro-batch 0 may read 'hidden, step 0, micro-batc",
        ),
        (
            _send_too_early,
            "early read",
            "send of layer 2, step 0, micro-batch 0 may read 'hidden, step 0, micro-batch 0",
        ),
        (_leave_a_layer_out, "missing", "experts of layer 3, step 0, micro-batch 0 is missing"),
        (_stages_overlap, "twice", "attention of layer 5, step 1, micro-batch 2 is there 2 times"),
        (_one_micro_batch_too_many, "not there", "micro-batch 3: the step has 3 micro-batches"),
        (_one_without_its_number, "mixed", "route of layer 0, step 0 names no micro-batch"),
        (_pull_something, "mixed", "pull of layer 3, step 0 names no micro-batch"),
    ],
)
def test_a_wrong_pipeline_is_refused_by_the_name_of_its_operation(change: Change, fault: str, words: str) -> None:
    messages = [hazard.message for hazard in _found(_changed(change)) if hazard.fault == fault]
    assert any(words in message for message in messages), messages
    with pytest.raises(ProgramError):
        verify(build(_scenario(), _changed(change)), _scenario())


def test_messages_are_of_micro_batches_also_where_none_has_a_number() -> None:
    def unnumbered(_: RankView, ops: list[Op]) -> list[Op]:
        return [op._replace(micro=None) for op in ops]

    assert {hazard.fault for hazard in _found(_changed(unnumbered))} >= {"mixed"}


def _ring(rank: RankView) -> Iterator[Op]:
    """Two ranks with two layers each, micro-batches of their own that start at home and end at the neighbour's.

    Each sends before it receives; that a rank receives only once it has sent is the circle.
    """
    other = 1 - rank.rank
    for micro, part in enumerate(rank.micro_batches(0)):
        if part.rank == rank.rank:
            yield rank.attention(0, 0, micro=micro)
            yield rank.route(0, 0, micro=micro)
            yield rank.experts(0, 0, signals="computed", micro=micro)
            yield rank.send_hidden(0, 1, micro, other, waits=("computed",), signals="sent")
    for micro, part in enumerate(rank.micro_batches(0)):
        if part.rank == other:
            yield rank.recv_hidden(0, 1, micro, other, signals="received", waits=("sent",))
            yield rank.attention(0, 1, waits=("received",), micro=micro)
            yield rank.route(0, 1, micro=micro)
            yield rank.experts(0, 1, micro=micro)


def _ring_without_the_circle(rank: RankView) -> Iterator[Op]:
    return (op._replace(waits=()) if op.kind == "recv" else op for op in _ring(rank))


def test_a_circle_of_messages_is_a_deadlock() -> None:
    """Whether a sender may go on before the other receives is the machine's affair: programs must not need it."""
    scenario = _scenario(2, **{"model.layers": 2, "workload.steps": 1})
    found = _found(_ring, scenario)
    assert {hazard.fault for hazard in found} == {"deadlock"}
    assert [hazard.rank for hazard in found] == [0, 1]
    assert "send of layer 1, step 0, micro-batch 0 waits for ever for rank 1" in found[0].message
    assert _found(_ring_without_the_circle, scenario) == []


def _two_layers_each_in_turn(rank: RankView) -> Iterator[Op]:
    """Interleaved stages: layers 0 and 2 on rank 0, 1 and 3 on rank 1; a micro-batch visits each rank twice."""
    other = 1 - rank.rank
    for micro in range(len(rank.micro_batches(0))):
        for layer in rank.layers[rank.rank :: 2]:
            received: tuple[str, ...] = ()
            if layer:
                sent = ("sent",) if layer > 1 else ()  # what came before it lies where it will
                yield rank.recv_hidden(0, layer, micro, other, signals="received", waits=sent)
                received = ("received",)
            yield rank.attention(0, layer, waits=received, micro=micro)
            yield rank.route(0, layer, micro=micro)
            yield rank.experts(0, layer, signals="computed", micro=micro)
            if layer + 1 in rank.layers:
                yield rank.send_hidden(0, layer + 1, micro, other, waits=("computed",), signals="sent")


def test_interleaved_stages_are_as_good() -> None:
    scenario = _scenario(2, **{"model.layers": 4, "workload.steps": 1})
    assert _found(_two_layers_each_in_turn, scenario) == []


Wrong = Callable[[RankView], Iterator[Op]]


def _no_sum_after_attention(rank: RankView) -> Iterator[Op]:
    return (op for op in tensor(rank) if op.kind != "all_reduce_attention")


def _one_rank_skips_a_sum(rank: RankView) -> Iterator[Op]:
    return (op for op in tensor(rank) if rank.rank != 1 or (op.kind, op.layer) != ("all_reduce_mlp", 2))


def _sum_before_the_parts_are_there(rank: RankView) -> Iterator[Op]:
    return (op._replace(waits=()) if op.kind in ALL_REDUCES else op for op in tensor(rank))


def _router_of_the_parts(rank: RankView) -> Iterator[Op]:
    return (op._replace(waits=()) if op.kind == "route" else op for op in tensor(rank))


def _own_tokens_only(rank: RankView) -> Iterator[Op]:
    return (op for op in tensor(rank) if rank.scenario.batches.tokens(rank.rank, op.step))


def _pulls_beside(rank: RankView) -> Iterator[Op]:
    yield rank.pull(0, 0, 0, (), "pulled")
    yield from tensor(rank)


@pytest.mark.parametrize(
    ("strategy", "fault", "words"),
    [
        (_no_sum_after_attention, "stale read", "route of layer 0, step 0 reads 'attended, step 0' before"),
        (_no_sum_after_attention, "missing", "all_reduce_attention of layer 0, step 0 is missing"),
        (_one_rank_skips_a_sum, "mismatch", "('all_reduce_mlp', 0, 2): both would wait for ever"),
        (_sum_before_the_parts_are_there, "early read", "all_reduce_mlp of layer 0, step 0 may read 'computed"),
        (_router_of_the_parts, "early read", "route of layer 0, step 0 may read 'attended, step 0' before the all_red"),
        (_own_tokens_only, "missing", "attention of layer 0, step 0 is missing"),
        (_pulls_beside, "mixed", "pull of layer 0, step 0: ranks that add up parts have all tokens"),
    ],
)
def test_wrong_sums_are_refused(strategy: Wrong, fault: str, words: str) -> None:
    scenario = _scenario(**{"workload": {"kind": "explicit", "lengths": [[9], [], [4]]}, "strategy.name": "tensor"})
    messages = [hazard.message for hazard in _found(strategy, scenario) if hazard.fault == fault]
    assert any(words in message for message in messages), messages


@settings(max_examples=100, deadline=None)
@given(scenarios(("pipeline",)), st.data())
def test_whatever_one_leaves_out_of_a_pipeline_is_found(scenario: Scenario, data: st.DataObject) -> None:
    programs = build(scenario)
    number = data.draw(st.sampled_from([n for n, program in enumerate(programs) if program.ops]))
    ops = programs[number].ops
    index = data.draw(st.integers(0, len(ops) - 1))
    without = [*programs]
    without[number] = Program(programs[number].rank, ops[:index] + ops[index + 1 :])
    assert check(without, scenario)


@settings(max_examples=100, deadline=None)
@given(scenarios(("pipeline", "tensor")), st.data())
def test_what_the_checker_passes_runs_to_its_end_whatever_is_moved(scenario: Scenario, data: st.DataObject) -> None:
    """An operation is moved to another place of its program: what is found clean is never stuck."""
    programs = list(build(scenario))
    number = data.draw(st.sampled_from([n for n, program in enumerate(programs) if program.ops]))
    ops = list(programs[number].ops)
    moved = ops.pop(data.draw(st.integers(0, len(ops) - 1)))
    ops.insert(data.draw(st.integers(0, len(ops))), moved)
    programs[number] = Program(programs[number].rank, tuple(ops))
    faults = {hazard.fault for hazard in check(programs, scenario)}
    cost = CostModel.of(load_hardware("laptop"))
    if not faults & {"mismatch", "deadlock", "unsignalled wait", "not there"}:
        spans = run_programs(programs, cost)
        assert sum(span.kind != "wait_peers" for span in spans) == sum(len(program.ops) for program in programs)
    elif faults & {"deadlock"} and "unsignalled wait" not in faults:
        with pytest.raises(StuckError):
            run_programs(programs, cost)
