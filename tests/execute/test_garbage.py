"""The garbage collector stays out of what is timed, and works again afterwards."""

from __future__ import annotations

import gc
import queue
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from stand_in_group import StandInGroup, start_at_once

from dwdp_lab.execute import serve
from dwdp_lab.execute.cpu.lanes import LaneRun
from dwdp_lab.execute.cuda import run_order
from dwdp_lab.execute.garbage import no_collection
from dwdp_lab.program.build import build
from dwdp_lab.scenario.scenario import Scenario


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    gc.enable()
    gc.unfreeze()


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("collects", [False, True])
def test_it_is_off_within_and_afterwards_as_it_was(collects: bool, fails: bool) -> None:
    (gc.enable if collects else gc.disable)()
    try:
        with no_collection():
            assert not gc.isenabled()
            if fails:
                raise KeyError
    except KeyError:
        assert fails
    assert gc.isenabled() == collects


def test_lanes_run_without_it() -> None:
    seen = []
    LaneRun(build(Scenario.create())[0].ops, lambda _: seen.append(gc.isenabled())).run(0)
    assert seen
    assert not any(seen)
    assert gc.isenabled()


def test_a_rank_that_is_ready_looks_no_more_at_what_it_has_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    class StopHereError(Exception):
        pass

    frozen: list[int] = []

    def ready(_: Any) -> None:
        frozen.append(gc.get_freeze_count())
        raise StopHereError

    monkeypatch.setattr(serve, "_start", lambda _: ({}, lambda _: None))
    with pytest.raises(StopHereError):
        serve.serve(SimpleNamespace(channel=SimpleNamespace(send=ready), orders=queue.Queue()))  # type: ignore[arg-type]
    assert frozen[0] > 10_000


def test_work_is_queued_on_gpus_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The timed program's, that is; of what only warms up nobody asks."""
    seen: dict[bool, set[bool]] = {}
    queue_program = run_order.queue_program

    def watched(ops: Any, events: Any, *others: Any) -> Any:
        seen.setdefault(bool(events.starts), set()).add(gc.isenabled())
        return queue_program(ops, events, *others)

    monkeypatch.setattr(run_order, "queue_program", watched)
    start_at_once(monkeypatch)
    group = StandInGroup(1)
    group.run(Scenario.create(model={"preset": "tiny", "layers": 1}, group={"ranks": 1}))
    group.close()
    assert seen[True] == {False}
    assert gc.isenabled()
