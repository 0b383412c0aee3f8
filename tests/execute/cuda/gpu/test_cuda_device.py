"""The real device against stand-ins for torch.cuda and the bindings: what it asks of them, in which order."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_copy_calls import COPIES, runtime

from dwdp_lab.execute.cuda.gpu.copy_calls import CudaCallFailed
from dwdp_lab.execute.cuda.gpu.copy_ways import CopyWays, choose_copy_way
from dwdp_lab.execute.cuda.gpu.cuda_device import CudaDevice, cuda_stream
from dwdp_lab.program.operation import LANES
from dwdp_lab.scenario.errors import ScenarioError


class Log(list[Any]):
    """What was asked, in order; `current` is torch's current stream."""

    current: Any = None
    capturing = False
    now_ms = 0.0


class FakeEvent:
    def __init__(self, log: Log, enable_timing: bool, external: bool) -> None:
        assert external == enable_timing  # in a capture: a stamp, which can be timed, or a dependency
        self.log = log
        self.timed = enable_timing
        self.at_ms = 0.0

    def record(self, stream: Any) -> None:
        self.at_ms = self.log.now_ms
        self.log.append(("record", stream.cuda_stream))

    def elapsed_time(self, other: FakeEvent) -> float:
        assert self.timed
        assert other.timed
        return other.at_ms - self.at_ms

    def synchronize(self) -> None:
        self.log.append("synchronize event")


class FakeStream:
    def __init__(self, log: Log, device: torch.device, priority: int, handle: int) -> None:
        assert device.type == "cuda"
        self.log = log
        self.priority = priority
        self.cuda_stream = handle

    def wait_event(self, event: FakeEvent) -> None:
        self.log.append(("wait", self.cuda_stream, event))


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    """torch.cuda and the bindings, replaced."""
    log = Log()
    handles = iter(range(5, 100))

    @contextmanager
    def on(stream: Any) -> Iterator[None]:
        before, log.current = log.current, stream
        yield
        log.current = before

    monkeypatch.setattr(torch.cuda, "Stream", lambda device, priority: FakeStream(log, device, priority, next(handles)))
    monkeypatch.setattr(torch.cuda, "Event", partial(FakeEvent, log))
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: log.capturing)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: log.append(("synchronize", device)))
    cuda = runtime(13)
    cuda.calls = log
    word = ctypes.c_uint32(9)
    cuda.word = word

    def named(name: str, *answer: Any) -> Any:
        def call(*arguments: Any) -> tuple[Any, ...]:
            log.append((name, *arguments))
            return (0, *answer)

        return call

    def copied(name: str, ms: float) -> Any:
        def call(*arguments: Any) -> tuple[int]:
            log.now_ms += ms
            log.append((name, arguments[-1]))
            return (0,)

        return call

    cuda.cudaMemcpyAsync, cuda.cudaMemcpyBatchAsync = copied("plain", 1.0), copied("batched", 2.0)
    cuda.cudaSetDevice = named("set device")
    cuda.cudaHostAllocMapped, cuda.cudaHostAllocPortable = 2, 1
    cuda.cudaHostAlloc = named("pin", ctypes.addressof(word))
    cuda.cudaHostGetDevicePointer = named("map", 4096)
    driver = SimpleNamespace(
        CUstreamWaitValue_flags=SimpleNamespace(CU_STREAM_WAIT_VALUE_GEQ=0),
        CUstreamWriteValue_flags=SimpleNamespace(CU_STREAM_WRITE_VALUE_DEFAULT=0),
        CUdevice_attribute=SimpleNamespace(CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS=122),
        cuStreamWaitValue32=named("hold"),
        cuStreamWriteValue32=named("write"),
        cuDeviceGetAttribute=named("attribute", 1),
    )
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", cuda)
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", driver)
    log.runtime, log.driver = cuda, driver  # type: ignore[attr-defined]
    return log


@pytest.fixture
def device(log: Log) -> CudaDevice:
    made = CudaDevice(torch.device("cuda", 1), SimpleNamespace())  # type: ignore[arg-type]
    assert log.pop() == ("set device", 1)
    return made


def test_work_runs_on_its_stream_and_copies_go_to_it(log: Log, device: CudaDevice) -> None:
    stream = device.stream("compute")
    seen: list[Any] = []
    stream.run(lambda: seen.append(log.current))
    assert seen == [stream.stream]
    assert log.current is None
    stream.copy(COPIES)
    assert log == [("plain", 5)] * 3
    log.clear()
    stream.way = "batched"
    stream.copy(COPIES)
    assert log == [("batched", 5)]
    log.clear()
    log.capturing = True  # a batch cannot be captured into a graph
    stream.copy(COPIES)
    assert log == [("plain", 5)] * 3


def test_events(log: Log, device: CudaDevice) -> None:
    first, second = device.stream("compute"), device.stream("copy")
    one, other = device.event(timed=True), device.event(timed=True)
    first.record(one)
    log.now_ms = 2.5
    second.wait(one)
    second.record(other)
    device.wait(other)
    device.synchronize()
    device_of = torch.device("cuda", 1)
    order = [("record", 5), ("wait", 6, one.event), ("record", 6), "synchronize event", ("synchronize", device_of)]
    assert log == order
    assert device.elapsed_us(one, other) == 2500.0
    with pytest.raises(TypeError, match="another kind"):
        first.wait(object())
    with pytest.raises(TypeError, match="another kind"):
        cuda_stream(object())  # type: ignore[arg-type]


def test_collectives_go_ahead_of_compute(device: CudaDevice) -> None:
    streams = {name: device.stream(name) for name in LANES}
    assert {name: stream.stream.priority for name, stream in streams.items()} == {"compute": 0, "copy": 0, "comm": -1}


class FakeGraph:
    def __init__(self, log: Log, number: int) -> None:
        self.log = log
        self.number = number

    def pool(self) -> str:
        return f"pool of {self.number}"

    def replay(self) -> None:
        self.log.append(("replay", self.number, self.log.current.cuda_stream))


def test_graphs_share_memory_in_turn(log: Log, device: CudaDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(9))

    @contextmanager
    def capture(graph: FakeGraph, pool: str | None, stream: FakeStream, capture_error_mode: str) -> Iterator[None]:
        log.append(("capture", graph.number, pool, stream.cuda_stream, capture_error_mode))
        yield
        log.append("captured")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: FakeGraph(log, next(numbers)))
    monkeypatch.setattr(torch.cuda, "graph", capture)
    stream, other = device.stream("compute"), device.stream("copy")
    event = device.event()
    with device.capture(stream) as first:
        stream.record(event)
        other.wait(event)
    with device.capture(stream, after=first) as second:
        pass
    stream.replay(first)
    stream.replay(second)
    assert log == [
        ("capture", 0, None, 5, "thread_local"),
        ("record", 5),
        ("wait", 6, event.event),
        "captured",
        ("capture", 1, "pool of 0", 5, "thread_local"),
        "captured",
        ("replay", 0, 5),
        ("replay", 1, 5),
    ]
    with pytest.raises(TypeError, match="graph of another kind"):
        stream.replay(object())


def test_one_pinned_word_serves_all_gates(log: Log, device: CudaDevice) -> None:
    streams = [device.stream("compute"), device.stream("copy")]
    word = log.runtime.word  # type: ignore[attr-defined]
    for number in range(2):
        gate = device.hold(streams)
        assert gate is not None
        pinned = [("pin", 4, 3), ("map", ctypes.addressof(word), 0)] if not number else []
        assert log == [*pinned, ("hold", 5, 4096, 1, 0), ("hold", 6, 4096, 1, 0)]
        log.clear()
        assert word.value == 0
        gate.open()
        assert word.value == 1


def test_a_device_that_cannot_hold_streams_has_no_gate(log: Log, device: CudaDevice) -> None:
    log.driver.cuStreamWaitValue32 = lambda *_: (801,)  # type: ignore[attr-defined]
    assert device.hold([device.stream("compute")]) is None


def test_streams_write_words_and_wait_for_them(log: Log, device: CudaDevice) -> None:
    """As unsigned numbers of 32 bits, whichever way they have gone round."""
    stream = device.stream("push")
    assert stream.stream.priority == -1
    stream.write_value(64, 2**32 + 3)
    stream.wait_value(128, -1)
    assert log == [("write", 5, 64, 3, 0), ("hold", 5, 128, 2**32 - 1, 0)]
    log.driver.cuStreamWriteValue32 = lambda *_: (801,)  # type: ignore[attr-defined]
    with pytest.raises(CudaCallFailed, match="writing a word at 0x40: 801"):
        stream.write_value(64, 1)
    log.driver.cuStreamWaitValue32 = lambda *_: (801,)  # type: ignore[attr-defined]
    with pytest.raises(CudaCallFailed, match="waiting for a word at 0x40: 801"):
        stream.wait_value(64, 1)


def test_a_gpu_tells_whether_its_streams_know_words(log: Log, device: CudaDevice) -> None:
    driver = log.driver  # type: ignore[attr-defined]
    assert device.why_no_values() is None
    assert log == [("attribute", 122, 1)]
    driver.cuDeviceGetAttribute = lambda *_: (0, 0)
    assert device.why_no_values() == "the GPU's streams have no memory operations"
    driver.cuDeviceGetAttribute = lambda *_: (101, None)
    assert "memory operations of streams on GPU 1" in str(device.why_no_values())
    driver.CUdevice_attribute = SimpleNamespace()
    assert "update cuda-bindings" in str(device.why_no_values())


def test_the_faster_way_is_taken_and_remembered(log: Log, device: CudaDevice) -> None:
    """Here a call takes 1 ms, a batch 2 ms: two copies are as fast either way, three are not."""
    stream, ways = device.stream("copy"), CopyWays(device)
    assert ways.set(stream, COPIES, "auto") == stream.way == "batched"
    assert ways.set(stream, COPIES[:1], "auto") == stream.way == "plain"
    log.clear()
    assert ways.set(stream, COPIES, "auto") == stream.way == "batched"
    assert not log
    assert ways.set(stream, COPIES, "plain") == stream.way == "plain"
    assert choose_copy_way(device, stream, COPIES[:2], ("plain",)).way == "plain"


def test_batches_that_are_hardly_faster_are_not_taken(log: Log, device: CudaDevice) -> None:
    def batched(ms: float) -> Any:
        def call(*_: Any) -> tuple[int]:
            log.now_ms += ms
            return (0,)

        return call

    for ms, way in ((2.95, "plain"), (2.85, "batched")):  # plainly they take 3 ms
        log.runtime.cudaMemcpyBatchAsync = batched(ms)  # type: ignore[attr-defined]
        device = CudaDevice(torch.device("cuda", 0), SimpleNamespace())  # type: ignore[arg-type]
        assert CopyWays(device).set(device.stream("copy"), COPIES, "auto") == way


def test_batches_that_cuda_refuses_are_no_choice(log: Log, device: CudaDevice) -> None:
    """A driver may offer them and then not take a peer's memory."""
    log.runtime.cudaMemcpyBatchAsync = lambda *_: (801,)  # type: ignore[attr-defined]
    device = CudaDevice(torch.device("cuda", 0), SimpleNamespace())  # type: ignore[arg-type]
    stream, ways = device.stream("copy"), CopyWays(device)
    for _ in range(2):
        told = ways.set(stream, COPIES, "auto")
        assert told.startswith("plain (batched: ")
        assert "801" in told
        assert stream.way == "plain"
    with pytest.raises(ScenarioError, match=r"strategy\.copy_calls = 'batched'.*refuses"):
        ways.set(stream, COPIES, "batched")
    log.runtime.cudaMemcpyAsync = lambda *_: (700,)  # type: ignore[attr-defined]
    broken = CudaDevice(torch.device("cuda", 0), SimpleNamespace())  # type: ignore[arg-type]
    with pytest.raises(CudaCallFailed):  # what plain copies cannot do, nobody can
        CopyWays(broken).set(broken.stream("copy"), COPIES, "auto")


def test_bindings_without_batches_say_so(log: Log) -> None:
    del log.runtime.cudaMemcpyBatchAsync  # type: ignore[attr-defined]
    device = CudaDevice(torch.device("cuda", 0), SimpleNamespace())  # type: ignore[arg-type]
    stream, ways = device.stream("copy"), CopyWays(device)
    assert ways.set(stream, COPIES, "auto") == "plain"
    with pytest.raises(ScenarioError, match=r"strategy\.copy_calls = 'batched'"):
        ways.set(stream, COPIES, "batched")


def test_a_gpu_that_the_bindings_do_not_know_is_told(log: Log) -> None:
    log.runtime.cudaSetDevice = lambda _: (101,)  # type: ignore[attr-defined]
    with pytest.raises(CudaCallFailed, match="choosing GPU 3"):
        CudaDevice(torch.device("cuda", 3), SimpleNamespace())  # type: ignore[arg-type]
