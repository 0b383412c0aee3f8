"""Pulls by the copy engines of the GPUs that the weights lie on: when, and with the same bits."""

from __future__ import annotations

from typing import Any

import pytest
from stand_in_group import StandInGroup
from test_cuda_schedules import at_once, scenario

from dwdp_lab.execute.cuda.device import Copy
from dwdp_lab.execute.cuda.driver_calls import DriverError
from dwdp_lab.execute.cuda.source_engines import Range, SourceEngines
from dwdp_lab.execute.messages import Finished
from dwdp_lab.program.build import build
from dwdp_lab.scenario.errors import ScenarioError

__all__ = ["at_once"]

BY_SOURCE = "pulls by the copy engines of the sources' GPUs"


def run(group: StandInGroup, work: Any, seed: int = 0, graph: bool = False) -> list[Finished]:
    group.schedule(seed)
    return list(group.run(work, build(work), graph=graph))


def by_source(reports: list[Finished]) -> list[bool]:
    return [BY_SOURCE in report.notes for report in reports]


@pytest.mark.parametrize(
    ("ranks", "changes", "taken"),
    [
        (2, {}, True),
        (2, {"strategy.weight_view": "merged"}, True),
        (2, {"strategy.weight_view": "composite", "strategy.slots": 3}, True),
        (2, {"strategy.pull": "routed"}, True),
        (2, {"strategy.copy_engines": "reader"}, False),
        (2, {"strategy.slice_bytes": 5000}, False),
        (2, {"strategy.slice_bytes": 5000, "strategy.copy_engines": "source"}, True),
        (3, {}, False),
        (3, {"strategy.copy_engines": "source", "strategy.slice_bytes": 5000, "strategy.cross_step": True}, True),
        (3, {"strategy.copy_engines": "source", "strategy.weight_view": "composite"}, True),
    ],
)
def test_whose_engines_copy_and_the_bits_of_replicated(ranks: int, changes: dict[str, Any], taken: bool) -> None:
    group, work = StandInGroup(ranks), scenario(ranks, **changes)
    expected = [report.output_sha256 for report in run(group, work.with_strategy("replicated"))]
    for seed in range(3):
        reports = run(group, work, seed)
        assert [report.output_sha256 for report in reports] == expected
        assert by_source(reports) == [taken] * ranks


def test_streams_on_other_gpus_are_made_once() -> None:
    group, work = StandInGroup(2), scenario(2)
    for _ in range(2):
        assert by_source(run(group, work)) == [True, True]
    there = [stream for device in group.devices for stream in device.streams if stream.gpu is not None]
    assert sorted(stream.gpu or 0 for stream in there) == [0, 1]


def test_replays_use_the_readers_engines() -> None:
    assert by_source(run(StandInGroup(2), scenario(2), graph=True)) == [False, False]


def test_ranks_that_share_gpus_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    group, work = StandInGroup(2), scenario(2)
    for machine in group.machines:
        monkeypatch.setattr(machine.kept, "own_gpus", False)
    assert by_source(run(group, work)) == [False, False]
    with pytest.raises(ScenarioError, match=r"strategy\.copy_engines = 'source'.*share GPUs.*Take auto"):
        run(group, work.replace(**{"strategy.copy_engines": "source"}))


def test_where_the_driver_refuses_the_reader_copies_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    group, work = StandInGroup(2), scenario(2)

    def refuse(gpu: int, address: int, nbytes: int) -> None:
        raise DriverError("cuMemSetAccess", "CUDA_ERROR_INVALID_DEVICE", f"{nbytes} at {address} opened to GPU {gpu}")

    for device in group.devices:
        monkeypatch.setattr(device.memory, "open_to", refuse)
    reports = run(group, work)
    assert by_source(reports) == [False, False]
    assert any("CUDA_ERROR_INVALID_DEVICE" in note for note in reports[0].notes)
    with pytest.raises(DriverError, match="opened to GPU"):
        run(group, work.replace(**{"strategy.copy_engines": "source"}))


def test_one_call_for_all_copies_is_refused() -> None:
    with pytest.raises(ScenarioError, match=r"strategy\.copy_calls = 'batched'.*copy_engines=source"):
        scenario(2, **{"strategy.copy_engines": "source", "strategy.copy_calls": "batched"})


def test_a_copy_from_nowhere_is_an_error() -> None:
    device = StandInGroup(2).devices[0]
    engines = SourceEngines(device, {1: device.stream_on(1, "far")}, {1: Range(4096, 4096)})
    with pytest.raises(ValueError, match="address 0x2000 is no source's"):
        engines.copy(device.stream("copy"), [Copy(0, 4096 + 4096, 8)])
