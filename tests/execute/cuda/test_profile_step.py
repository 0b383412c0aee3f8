"""A GPU rank's step under the profiler, on the stand-in: what is queued, labelled and timed, beside the run itself."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
from stand_in_group import StandInGroup
from test_cuda_schedules import at_once, scenario  # noqa: F401 (fixture)

from dwdp_lab.execute.cuda import profile_step, run_order
from dwdp_lab.execute.cuda.gpu.clock import clock
from dwdp_lab.execute.cuda.graph_program import Captured
from dwdp_lab.execute.cuda.operations import Computation
from dwdp_lab.execute.cuda.rank_machine import RankMachine
from dwdp_lab.execute.cuda.setup import Setup
from dwdp_lab.execute.kernel_spans import LANE, OPERATION
from dwdp_lab.execute.kineto import Seen, Trace
from dwdp_lab.program.build import build
from dwdp_lab.program.operation import LANES


class Profiler:
    """Notes what is labelled; of what runs it sees one thing in each run of the step."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.labels: list[str] = []
        patch.setattr(profile_step, "under_profiler", self.run)
        patch.setattr("dwdp_lab.execute.profiler.record_function", self.label)
        patch.setattr(profile_step, "clock", lambda *anchors: clock(*anchors)._replace(error_us=0.5))

    def label(self, name: str) -> AbstractContextManager[None]:
        self.labels.append(name)
        return nullcontext()

    def run(self, work: Callable[[], Any], gpu: bool) -> tuple[Any, Trace]:
        assert not gpu  # the stand-in is none
        did = work()
        spans, since_ns = did.spans, did.since_ns
        seen = [
            Seen("user_annotation", f"{OPERATION}{len(spans) - 1}", 1, 0.0, 9e18, None, 0.0),
            Seen("cpu_op", "before", 1, since_ns - 2.0, since_ns - 1.0, None, 0.0),
            Seen("cpu_op", "after", 1, since_ns + 1.0, since_ns + 2.0, None, 0.0),
        ]
        return did, Trace(tuple(seen), 250.0)


@pytest.mark.parametrize("graph", [False, True])
def test_the_busiest_step_runs_twice_and_the_run_is_as_it_was(monkeypatch: pytest.MonkeyPatch, graph: bool) -> None:
    group = StandInGroup(2)
    work = scenario(2, **{"strategy.cross_step": True})
    plain = group.run(work, graph=graph)
    profiler = Profiler(monkeypatch)
    begun: list[int] = []

    def started(session: Any, queued: int) -> int:
        begun.append(queued)
        return common_start(session, queued)

    common_start = run_order.common_start
    monkeypatch.setattr(run_order, "common_start", started)
    group.schedule(7)
    reports = group.run(work, graph=graph, profiled=True)
    tokens = [max(work.batches.tokens(rank, step) for rank in range(2)) for step in range(work.batches.steps)]
    step = tokens.index(max(tokens))
    ops = [[op for op in program.ops if op.step == step] for program in build(work)]
    assert sorted(begun) == sorted(map(len, ops)), "time to queue one step, not all of the run"
    for rank, report in enumerate(reports):
        assert report.output_sha256 == plain[rank].output_sha256
        assert len(report.spans) == len(plain[rank].spans)
        found = report.profiled
        assert found is not None
        assert (found.step, found.clock_error_us) == (step, 0.25 + 0.5)  # of the kernels' clock, and of the operations'
        assert [(span.rank, span.kind, span.layer) for span in found.spans] == [
            (rank, op.kind, op.layer) for op in ops[rank]
        ]
        assert [(kernel.name, kernel.of) for kernel in found.kernels] == [("after", "experts L4")]
        assert found.outside_us > 0
        last = max(span.end_us for span in report.spans)
        assert all(last <= span.start_us <= span.end_us for span in found.spans)
        for number in range(len(ops[rank])):  # once untimed, once timed, on both ranks
            assert profiler.labels.count(f"{OPERATION}{number}") == 2 * sum(number < len(mine) for mine in ops)
    assert all(profiler.labels.count(f"{LANE}{lane}") == 2 for lane in LANES)
    group.close()


def test_graphs_have_given_their_memory_back_when_a_step_is_profiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The step is queued without them and takes as much again."""
    group, held, alive = StandInGroup(2), dict[int, list[Any]](), list[bool]()
    capture, profile = run_order._captured, run_order.profile_step

    def captured(machine: RankMachine, *given: Any) -> Captured:
        made = capture(machine, *given)
        held[id(machine)] = [weakref.ref(part.graph) for part in made.parts]
        return made

    def profiled(session: Any, machine: RankMachine, *given: Any) -> Any:
        alive.extend(graph() is not None for graph in held[id(machine)])
        return profile(session, machine, *given)

    monkeypatch.setattr(run_order, "_captured", captured)
    monkeypatch.setattr(run_order, "profile_step", profiled)
    Profiler(monkeypatch)
    group.run(scenario(2), graph=True, profiled=True)
    assert alive
    assert not any(alive)
    group.close()


def test_the_first_time_has_given_its_memory_back_before_the_second(monkeypatch: pytest.MonkeyPatch) -> None:
    group, held, made = StandInGroup(2), list[bool](), list[Computation]()

    class Watched(Computation):
        def __init__(self, setup: Setup, *given: Any) -> None:
            held.extend(bool(one.buffers._kept) for one in made if one.setup is setup)
            super().__init__(setup, *given)
            made.append(self)

    monkeypatch.setattr(profile_step, "Computation", Watched)
    Profiler(monkeypatch)
    group.run(scenario(2), profiled=True)
    assert held == [False, False]  # on both ranks
    assert not any(one.buffers._kept for one in made)
    group.close()


def test_pulls_of_routed_experts_say_what_they_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    """The step is one that ran before, so its pulls move the same bytes again."""
    Profiler(monkeypatch)
    group = StandInGroup(2)
    for report in group.run(scenario(2, **{"strategy.pull": "routed"}), profiled=True):
        assert report.profiled is not None
        step = report.profiled.step
        moved = [one.nbytes for one in report.spans if (one.kind, one.step) == ("pull", step)]
        assert moved
        assert [one.nbytes for one in report.profiled.spans if one.kind == "pull"] == moved
    group.close()
