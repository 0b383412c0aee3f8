"""What operations hand on stays as long as any lane may read it, and no longer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from stand_in_device import StandInStream
from stand_in_group import StandInGroup, start_at_once
from test_cuda_schedules import FORMS, MODEL, scenario
from torch import Tensor

from dwdp_lab.execute.cuda.compute.buffers import Buffers
from dwdp_lab.program.build import build
from dwdp_lab.program.checker import check
from dwdp_lab.program.operation import Op
from dwdp_lab.program.rank_view import RankView


class Stream:
    def __init__(self) -> None:
        self.used: list[Tensor] = []

    def uses(self, tensor: Tensor) -> None:
        self.used.append(tensor)


def test_memory_is_kept_for_lanes_that_may_still_read() -> None:
    streams: dict[Any, Any] = {lane: Stream() for lane in ("compute", "comm")}
    buffers = Buffers(streams)
    route, send = Op("route", "compute", 0, 0), Op("dispatch", "comm", 0, 0)
    first, second, third = (torch.full((2,), float(value)) for value in range(3))
    buffers.put("hidden", route, first)
    buffers.put("hidden", route, second)  # the checker has proven that nobody reads the first any more
    assert not any(stream.used for stream in streams.values())
    buffers.put("hidden", send, third)  # another lane: its readers may be behind
    assert streams["comm"].used == [second]
    assert not streams["compute"].used
    buffers.put("routed", route, first, second)
    buffers.drop((0, None), but="hidden")
    assert streams["comm"].used == [second, first, second]
    assert buffers.find("hidden", (0, None)) == (third,)
    assert buffers.find("routed", (0, None)) == ()
    buffers.put("hidden", Op("route", "compute", 1, 0), first)  # another step's own
    assert buffers.get("hidden", (0, None)) == (third,)
    buffers.clear()
    assert buffers.find("hidden", (0, None)) == ()


def test_what_is_taken_is_gone_unless_another_lane_made_it() -> None:
    streams: dict[Any, Any] = {lane: Stream() for lane in ("compute", "comm")}
    buffers = Buffers(streams)
    route, send = Op("route", "compute", 0, 0), Op("dispatch", "comm", 0, 0)
    mine, theirs = torch.zeros(2), torch.ones(2)
    buffers.put("mine", route, mine)
    buffers.put("theirs", send, theirs)
    assert buffers.take("mine", route) == (mine,)
    assert buffers.take("theirs", route) == (theirs,)
    assert buffers.take("mine", route) == ()
    assert buffers.find("theirs", (0, None)) == (theirs,)
    buffers.put("theirs", send)
    assert buffers.find("theirs", (0, None)) == ()
    assert not any(stream.used for stream in streams.values())


@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(form.values()))
def test_no_layer_keeps_memory_until_the_device_is_done(form: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch cannot give it to others before, however far the device is behind the host. So there are such tensors at
    the end of a step, but not more of them with more layers."""
    used: list[Tensor] = []
    monkeypatch.setattr(StandInStream, "uses", lambda _, tensor: used.append(tensor))
    start_at_once(monkeypatch)
    group, found = StandInGroup(2), []
    for layers in (4, 6):
        used.clear()
        group.run(scenario(2, MODEL | {"layers": layers}, **form))
        found.append(sum(tensor.is_floating_point() for tensor in used))
    assert found[0] == found[1] > 0
    group.close()


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a lane has replaced with its own, and what its last reader has read, is overwritten at once, as by the next
    tensor that the lane makes."""
    put, take = Buffers.put, Buffers.take

    def replace(self: Buffers, name: str, op: Op, *tensors: Tensor) -> None:
        before = self._kept.get((name, (op.step, op.micro)))
        put(self, name, op, *tensors)
        if before is not None and before.lane == op.lane:
            for tensor in before.tensors:
                if tensor.is_floating_point():
                    tensor.fill_(torch.nan)

    def read_once(self: Buffers, name: str, op: Op) -> tuple[Tensor, ...]:
        taken = take(self, name, op)
        copies = tuple(tensor.clone() for tensor in taken)
        for tensor in taken:
            if not self.find(name, (op.step, op.micro)):
                tensor.fill_(torch.nan)
        return copies

    monkeypatch.setattr(Buffers, "put", replace)
    monkeypatch.setattr(Buffers, "take", read_once)
    start_at_once(monkeypatch)


def two_steps_at_once(rank: RankView) -> Iterator[Op]:
    """DEP with the traffic of one step behind the other's attention."""
    out, back = ("gather_tokens", "reduce_tokens") if rank.knobs.dep_form == "all_gather" else ("dispatch", "combine")
    first, *rest = rank.all_steps
    pairs = [(first, rest[0]), *((step,) for step in rest[1:])]
    for steps in pairs:
        ready: dict[int, tuple[str, ...]] = dict.fromkeys(steps, ())
        for layer in rank.layers:
            for step in steps:
                yield rank.attention(step, layer, waits=ready[step])
                ready[step] = ()
                if layer in rank.moe_layers:
                    yield rank.route(step, layer, signals=f"routed {step}")
                    yield rank.send(out, step, layer, (f"routed {step}",), f"received {step}")  # type: ignore[arg-type]
                else:
                    yield rank.dense(step, layer)
            for step in steps:
                if layer in rank.moe_layers:
                    yield rank.computed_experts(step, layer, (f"received {step}",), f"computed {step}")
                    yield rank.send(back, step, layer, (f"computed {step}",), f"returned {step}")  # type: ignore[arg-type]
                    ready[step] = (f"returned {step}",)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("form", [*FORMS, {"strategy.name": "dwdp"}], ids=lambda form: "-".join(form.values()))
def test_nobody_reads_what_a_lane_has_replaced(form: dict[str, Any]) -> None:
    work = scenario(2, **form)
    group = StandInGroup(2)
    programs: list[Callable[[], Any]] = [lambda: build(work)]
    if form["strategy.name"] == "dep":
        interleaved = build(work, two_steps_at_once)
        assert not check(interleaved, work)
        programs.append(lambda: interleaved)
    found = set()
    for seed in range(20):
        group.schedule(seed)
        for program in programs:
            for graph in (False, True)[: 1 if form.get("strategy.dep_form") == "all_to_all" else 2]:
                found.add(tuple(report.output_sha256 for report in group.run(work, program(), graph)))
    assert len(found) == 1
    group.close()
