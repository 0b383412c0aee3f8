"""GPU ranks' copies on stand-ins for GPUs: memory, streams, events and gates as the CUDA machine uses them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from adversary import World, chooser
from host_memory import HostMemory, no_files_left
from stand_in_device import StandInDevice, StandInStream
from stand_in_group import StandInSession, Table

from dwdp_lab.execute.cuda.gpu.copy_calls import CudaCallFailed
from dwdp_lab.execute.cuda.gpu.device import Copy
from dwdp_lab.execute.cuda.gpu.driver_calls import DriverError
from dwdp_lab.execute.cuda.memory.block_transport import BlockTransport
from dwdp_lab.measure.transfers import transfers_cuda, transfers_rank
from dwdp_lab.measure.transfers.copies import copies_record
from dwdp_lab.measure.transfers.copies_cases import CopyOptions, copy_cases
from dwdp_lab.measure.transfers.source_engines import Range, SourceEngines
from dwdp_lab.measure.transfers.transfers import About, Case, Plan, Report, Sample
from dwdp_lab.measure.transfers.transfers_cuda import CudaEnd
from dwdp_lab.measure.transfers.transfers_measured import Machine, Measured
from dwdp_lab.measure.transfers.transfers_pattern import WrongBytes
from dwdp_lab.program.pull_plan import Slice
from dwdp_lab.view.charts.measured_copies import slice_rates

KIB = 1024
PIECES = tuple(Slice(1, n * KIB, n * KIB, KIB) for n in range(6))
CASES = (
    Case("one", ((Slice(1, 0, 0, 40 * KIB),), ())),
    Case("plain meanwhile", (PIECES, ()), ahead=False),
    Case("batched", (PIECES, ()), way="batched"),
    Case("marked", (PIECES, tuple(p._replace(peer=0) for p in PIECES)), marks=True, rounds=2, random_phases=True),
    Case("kernel", ((Slice(0, 0, 0, 4 * KIB),), ()), way="kernel"),
    Case("source", (PIECES, tuple(p._replace(peer=0) for p in PIECES)), way="source", rounds=2),
)


class Group:
    """Two ranks on stand-in GPUs."""

    def __init__(self, seed: int, page: int = 4096) -> None:
        self.world = World(2, *chooser(seed))
        table = Table(2)
        self.sessions = [StandInSession(self.world, rank, table) for rank in range(2)]
        self.devices = [StandInDevice(self.world, rank, HostMemory(page)) for rank in range(2)]
        self.page = page

    def end(self, session: Any, plan: Plan) -> CudaEnd:
        device: Any = self.devices[session.rank]
        transport = BlockTransport(device.memory, "descriptor", self.page)
        streams: Any = {way: device.stream(way) for way in ("plain", "batched")}
        return CudaEnd(session, plan, device, transport, streams, own_gpus=True)

    def measure(self, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> list[Report]:
        monkeypatch.setattr(transfers_rank, "open_end", self.end)
        return self.world.run(lambda rank: transfers_rank.measure_transfers(self.sessions[rank], plan))  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(6))
def test_all_arrives_whatever_order_streams_run_in(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with no_files_left():
        group = Group(seed)
        found = group.measure(Plan("cuda", CASES, repeats=1, evict_bytes=64), monkeypatch)
        for device in group.devices:
            device.memory.assert_nothing_left()
            assert all(gate.opened for gate in device.gates)
    assert [sorted(sample.case for sample in report.samples) for report in found] == [[0, 1, 2, 3, 4, 5], [3, 5]]
    for rank, report in enumerate(found):
        assert report.notes == ("peers' memory: driver memory, shared by POSIX descriptors",)
        assert report.checked_bytes == 2 * sum(case.round_bytes(rank) for case in CASES)
        for sample in report.samples:
            assert sample.end_us >= sample.start_us
            assert len(sample.marks) == (12 if sample.case == 3 else 0)
            assert list(sample.marks) == sorted(sample.marks)


def test_the_sources_engines_have_a_part_of_their_own_in_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine("cuda", (About("a GPU", "0", None, {}, ("plain", "source")),) * 2, 0.0)
    options = CopyOptions(largest=64 * KIB, share=64 * KIB)
    cases = copy_cases(machine, options)
    plan = Plan("cuda", tuple(cases.values()), repeats=1)
    reports = tuple(Group(4).measure(plan, monkeypatch))
    number = {key: at for at, key in enumerate(cases)}
    record = copies_record(Measured(machine, plan, reports, number), options, "a command")
    for part in (record, record["by_source_engines"]):
        assert part["both_directions"]["bytes"] == 128 * KIB
        assert [row["readers"] for row in part["readers"]] == [1]
    took = [record["both_directions"]["median_us"], record["by_source_engines"]["both_directions"]["median_us"]]
    assert took[0] != took[1], "two cases, measured each for itself"


def test_ranks_held_apart_by_larger_pages_still_find_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Group(1, page=1 << 16).measure(Plan("cuda", CASES[:1], repeats=1), monkeypatch)
    assert found[0].checked_bytes == 2 * 40 * KIB


def test_a_lost_copy_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    group = Group(3)
    torn = group.world.torn
    monkeypatch.setattr(group.world, "torn", lambda copies: torn(copies)[1:] if len(copies) > 1 else torn(copies))
    with pytest.raises(WrongBytes):
        group.measure(Plan("cuda", CASES, repeats=1), monkeypatch)


def test_a_way_that_cuda_refuses_is_replaced_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(stream: StandInStream, copies: Sequence[Copy]) -> None:
        if stream.name.startswith("batched"):
            raise CudaCallFailed(f"copying {len(copies)} pieces in one call: cudaErrorNotSupported")
        copy(stream, copies)

    copy = StandInStream.copy
    monkeypatch.setattr(StandInStream, "copy", refuse)
    found = Group(2).measure(Plan("cuda", CASES, repeats=1), monkeypatch)
    for report in found:
        assert "batched copies are refused here" in report.notes[1]
        assert "cudaErrorNotSupported" in report.notes[1]
    assert found[0].checked_bytes == 2 * sum(case.round_bytes(0) for case in CASES)


def test_where_sources_cannot_write_here_the_readers_engines_copy_and_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(gpu: int, address: int, nbytes: int) -> None:
        raise DriverError("cuMemSetAccess", "CUDA_ERROR_INVALID_DEVICE", f"{nbytes} at {address}, opened to GPU {gpu}")

    group = Group(5)
    for device in group.devices:
        monkeypatch.setattr(device.memory, "open_to", refuse)
    for report in group.measure(Plan("cuda", CASES[-1:], repeats=1), monkeypatch):
        assert "the sources' engines cannot copy here" in report.notes[1]
        assert "CUDA_ERROR_INVALID_DEVICE" in report.notes[1]
        assert report.checked_bytes


def test_a_copy_from_nowhere_is_an_error() -> None:
    device = Group(0).devices[0]
    engines = SourceEngines(device, {1: device.stream_on(1, "far")}, {1: Range(4096, 4096)})
    with pytest.raises(ValueError, match="address 0x2000 is no source's"):
        engines.copy(device.stream("copy"), [Copy(0, 4096 + 4096, 8)])


class Script:
    """A device that writes down what it is asked to do, in order."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.events = 0

    def event(self, timed: bool = False) -> str:
        assert timed
        self.events += 1
        return f"event {self.events}"

    def copy(self, copies: Sequence[Copy]) -> None:
        self.log.append(f"copy {len(copies)}")

    def record(self, event: str) -> None:
        self.log.append(f"record {event}")

    def wait(self, event: str) -> None:
        self.log.append(f"wait {event}")

    def elapsed_us(self, first: str, second: str) -> float:
        return float(second.split()[1]) - float(first.split()[1])


@pytest.mark.parametrize(
    ("ahead", "marks", "between"),
    [
        (True, False, ["hold", "record event 1", "copy 6", "record event 2", "open"]),
        (False, False, ["start", "record event 1", "copy 6", "record event 2"]),
        (True, True, ["hold", "record event 1", *[f"{n}" for n in range(6)], "record event 2", "open"]),
    ],
)
def test_what_is_timed_lies_between_two_events_behind_the_gate(
    ahead: bool, marks: bool, between: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issued ahead: everything is queued before the gate opens. Otherwise nothing is before the start."""
    script: Any = Script()

    @contextlib.contextmanager
    def gate(word: str) -> Iterator[None]:
        script.log.append(word)
        yield
        if word == "hold":
            script.log.append("open")

    monkeypatch.setattr(transfers_cuda, "hold_until", lambda *_: gate("hold"))
    monkeypatch.setattr(transfers_cuda, "opened_at", lambda *_: gate("start"))
    monkeypatch.setattr(transfers_cuda, "anchor", lambda *_: transfers_cuda_reading())
    monkeypatch.setattr(transfers_cuda, "clock", lambda *_: _Clock())
    end: Any = object.__new__(CudaEnd)
    end._device, end._streams, end._sources, end._target_address = script, {"plain": script}, [0, 1 << 20], 1 << 30
    timing = end.copy(PIECES, 0, Case("x", (PIECES, ()), ahead=ahead, marks=marks))
    expected = []
    for step in between:
        number = int(step) if step.isdigit() else None
        expected += [step] if number is None else ["copy 1", f"record event {3 + number}"]
    assert script.log == [*expected, "wait event 2"]
    # one step of the made-up clock is 1 us; it starts at event 0
    assert (timing.start_ns, timing.end_ns) == (1000.0, 2000.0)
    assert timing.marks_ns == tuple(1000.0 * n for n in range(3, 9)) * marks


def transfers_cuda_reading() -> Any:
    return type("Reading", (), {"event": "event 0"})()


class _Clock:
    error_us = 0.25

    def host_ns(self, device_us: float) -> float:
        return 1e3 * device_us


def test_on_gpus_slices_go_both_ways_ahead_only_where_a_queue_takes_them() -> None:
    about = About("H100", "0", "580", {"torch": "2.13"}, ("plain", "batched", "kernel"))
    machine = Machine("cuda", (about, about, about), 0.0)
    cases = copy_cases(machine, CopyOptions(largest=1 << 30, share=256 << 20))
    sliced = {key[1:]: case for key, case in cases.items() if key[0] == "sliced"}
    assert {(way, ahead) for step, way, ahead in sliced if step == 64 * KIB} == {("plain", False), ("batched", False)}
    assert {(way, ahead) for step, way, ahead in sliced if step == 4 << 20} == {
        (way, ahead) for way in ("plain", "batched") for ahead in (False, True)
    }
    assert all(len(case.slices[0]) <= 512 for case in sliced.values() if case.ahead)
    for case in sliced.values():
        assert sum(piece.nbytes for piece in case.slices[0]) == 256 << 20
        assert case.slices[1:] == ((), ())
    assert ("local", 1 << 30, "kernel") in cases
    assert cases["order", "rotated", 2 << 20].way == "batched"


def test_a_share_of_which_no_slices_go_ahead_is_a_record_all_the_same() -> None:
    """16 GiB in slices of 16 MiB are 1,024 copies, more than a stream takes before the first of them starts."""
    about = About("H200", "0", "580", {"torch": "2.13"}, ("plain", "batched"))
    machine, options = Machine("cuda", (about, about), 0.0), CopyOptions(largest=1 << 20, share=16 << 30, repeats=1)
    cases = copy_cases(machine, options)
    reports = tuple(
        Report(
            tuple(Sample(n, 0, 0.0, 8.0, 2.0, -1.0) for n, case in enumerate(cases.values()) if case.slices[rank]),
            (),
            0.5,
            1 << 30,
        )
        for rank in range(2)
    )
    plan = Plan("cuda", tuple(cases.values()), 1)
    number = {key: number for number, key in enumerate(cases)}
    record = copies_record(Measured(machine, plan, reports, number), options, "dwdp-lab bench copies")
    assert [(one["way"], one["ahead"]) for one in record["sliced"]] == [("plain", False), ("batched", False)]
    assert record["sliced"][0]["slice_bytes"] == [1 << 20, 2 << 20, 4 << 20, 8 << 20, 16 << 20]
    assert all(one["what"].endswith(", the host issues while copies run") for one in record["sliced"])
    assert slice_rates(record).curves
