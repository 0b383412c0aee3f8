"""Steps as graphs, on the stand-in: the bits of the run without graphs, whatever order the GPU takes."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from adversary import World, chooser
from hypothesis import given, settings
from hypothesis import strategies as st
from stand_in_device import StandInDevice
from test_cuda_schedules import (  # noqa: F401 (fixtures)
    MANY,
    MOE_ONLY,
    Group,
    at_once,
    groups,
    knobs,
    scenario,
    without_one_wait,
)

from dwdp_lab.execute.cuda import run_order
from dwdp_lab.execute.cuda.graph_program import Captured, capture_program, parts_of, replay_program
from dwdp_lab.execute.cuda.operations import Computation
from dwdp_lab.execute.cuda.rank_machine import RankMachine
from dwdp_lab.program.build import build
from dwdp_lab.program.checker import check
from dwdp_lab.program.operation import LANES, Lane, Op, Program, awaited
from dwdp_lab.scenario.scenario import Scenario


@pytest.fixture(scope="module", autouse=True)
def spoiled() -> Iterator[None]:
    """The first replay leaves the right weights in the slots, as warming up does."""
    slots: dict[int, Any] = {}
    prepare, replay_once = run_order._captured, run_order._replay_once

    def captured(machine: RankMachine, computation: Computation, *rest: Any) -> Captured:
        slots[id(machine)] = computation.setup.experts.copies_of
        return prepare(machine, computation, *rest)

    def replay_and_spoil(machine: RankMachine, *rest: Any) -> None:
        replay_once(machine, *rest)
        for copies in slots.pop(id(machine)).values():
            for target, _, nbytes in copies:
                ctypes.memset(target, 0xFF, nbytes)  # NaN

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dwdp_lab.execute.cuda.run_order._captured", captured)
        patch.setattr("dwdp_lab.execute.cuda.run_order._replay_once", replay_and_spoil)
        yield


def replayed(group: Group, work: Scenario, seed: int, programs: Sequence[Program] | None = None) -> list[str]:
    group.ranks.schedule(seed)
    return [report.output_sha256 for report in group.ranks.run(work, programs, graph=True)]


@settings(max_examples=80, deadline=None)
@given(knobs(), st.integers(2, 3), st.integers(0, 2**20))
def test_replayed_dwdp_gives_the_bits_of_replicated_weights(
    groups: Callable[..., Group],  # noqa: F811
    knobs: dict[str, Any],
    ranks: int,
    seed: int,
) -> None:
    group = groups(ranks)
    assert replayed(group, group.base.replace(**knobs), seed) == group.expected


OTHERS: list[dict[str, Any]] = [
    {"strategy.name": "replicated"},
    {"strategy.name": "weight_gather"},
    {"strategy.name": "weight_gather", "strategy.cross_step": True, "strategy.slots": 3},
    {"strategy.name": "dep", "strategy.dep_form": "all_gather"},
    {"strategy.name": "tensor"},
]


@pytest.mark.parametrize("changes", OTHERS, ids=lambda changes: "-".join(map(str, changes.values())))
def test_a_replay_gives_the_bits_of_the_run_without_graphs(
    groups: Callable[..., Group],  # noqa: F811
    changes: dict[str, Any],
) -> None:
    """Also where ranks meet inside graphs, and where some have no tokens."""
    for ranks in (2, 3):
        group = groups(ranks)
        for work in (
            group.base,
            group.base.replace(workload={"kind": "explicit", "lengths": [[7, 2], [], [1]][:ranks]}),
        ):
            work = work.replace(**changes)
            expected = group.hashes(work, 0)
            assert [replayed(group, work, seed) for seed in range(6)] == [expected] * 6


def test_a_wait_left_out_within_a_step_shows_in_replays_too() -> None:
    group = Group(scenario(2, MOE_ONLY, **{"workload.steps": 2}))
    first, second = build(group.base)
    refused = 0
    for mutant in without_one_wait(first):
        programs = [mutant, second]
        if not check(programs, group.base):
            assert all(replayed(group, group.base, seed, programs) == group.expected for seed in range(6)), mutant
        elif not crosses_a_border(first, mutant):
            refused += 1
            assert any(replayed(group, group.base, seed, programs) != group.expected for seed in range(MANY)), mutant
    assert refused >= 8
    group.ranks.close()


def crosses_a_border(whole: Program, mutant: Program) -> bool:
    """The wait that is left out is for an operation of an earlier part, which ends before this one in any case."""
    part = {index: number for number, indices in enumerate(parts_of(whole.ops)) for index in indices}
    waits = zip(awaited(whole.ops), awaited(mutant.ops), strict=True)
    return any(
        part[number] < part[index] for index, (all_, left) in enumerate(waits) for number in set(all_) - set(left)
    )


@settings(max_examples=60, deadline=None)
@given(knobs(), st.sampled_from(["dwdp", "weight_gather"]))
def test_parts_are_steps_in_issue_order(knobs: dict[str, Any], name: str) -> None:
    work = scenario(2, **knobs | {"strategy.name": name})
    for program in build(work):
        parts = parts_of(program.ops)
        assert [index for indices in parts for index in indices] == list(range(len(program.ops)))
        ends = [program.ops[indices[-1]].step for indices in parts]
        assert ends == sorted({op.step for op in program.ops})
        for end, indices in zip(ends, parts, strict=True):
            ahead = [program.ops[index] for index in indices if program.ops[index].step > end]
            assert all(op.lane != "compute" for op in ahead)
            assert work.strategy.cross_step or not ahead


@pytest.mark.parametrize("recorded", [True, False])
def test_nothing_runs_before_the_replay_and_every_replay_stamps_anew(recorded: bool) -> None:
    """The host code of a rank: all else is the stand-in's."""
    world = World(1, *chooser(1))
    device = StandInDevice(world, 0, SimpleNamespace())
    streams: dict[Lane, Any] = {lane: device.stream(lane) for lane in LANES}
    (first, *_) = build(scenario(2, MOE_ONLY, **{"strategy.cross_step": True}))
    done: list[Op] = []
    ended: list[Op] = []

    def queue(op: Op) -> None:
        streams[op.lane].run(lambda: done.append(op))

    def live(_: int) -> None:
        captured = capture_program(device, first.ops, streams, queue, ended.append, recorded)
        assert not any(stream.commands for stream in device.streams)
        assert not done
        assert [op.step for op in ended] == [part.step for part in captured.parts] == [0, 1, 2]
        before = 0
        for _ in range(3):
            done.clear()
            queued = replay_program(device, captured, streams["compute"])
            assert [step for step, _ in queued.step_ends] == [0, 1, 2]
            device.wait(queued.step_ends[-1][1][0])
            assert sorted(done) == sorted(first.ops)
            times: list[Any] = [(stamp.start.at_ns, stamp.end.at_ns) for stamp in queued.stamps]  # type: ignore[attr-defined]
            assert len(times) == (len(first.ops) if recorded else 0)
            assert all(before <= start <= end for start, end in times)
            before = max((end for _, end in times), default=0)

    world.run(live)


def test_a_failure_names_the_operation() -> None:
    world = World(1, *chooser(1))
    device = StandInDevice(world, 0, SimpleNamespace())
    streams: dict[Lane, Any] = {lane: device.stream(lane) for lane in LANES}
    program = build(scenario(2))[0]

    def fail(op: Op) -> None:
        if op.kind == "experts":
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        world.run(lambda _: capture_program(device, program.ops, streams, fail, lambda _: None, True))
    assert caught.value.__notes__ == ["while capturing experts of layer 1, step 0"]


def test_spans_and_notes_tell_how_it_ran(groups: Callable[..., Group]) -> None:  # noqa: F811
    group = groups(2)
    group.ranks.schedule(3)
    for program, report in zip(build(group.base), group.ranks.run(group.base, graph=True), strict=True):
        assert [(span.kind, span.step, span.layer) for span in report.spans] == [
            (op.kind, op.step, op.layer) for op in program.ops
        ]
        for lane in LANES:
            mine = [span for span in report.spans if span.lane == lane]
            assert all(0 <= span.start_us <= span.end_us for span in mine)
            assert all(after.start_us >= before.end_us for before, after in itertools.pairwise(mine))
        assert any("replayed as a CUDA graph" in note for note in report.notes)
