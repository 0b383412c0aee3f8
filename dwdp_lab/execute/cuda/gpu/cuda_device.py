"""One NVIDIA GPU as the CUDA machine sees it: torch's streams and events, copies through CUDA's own calls."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from dwdp_lab.execute.cuda.gpu.copy_calls import CopyWay, CudaCallFailed, Issue, batched, check, plain
from dwdp_lab.execute.cuda.gpu.device import Copy, Event, Gate, Graph, Memory, Stream
from dwdp_lab.execute.cuda.gpu.driver_calls import DriverError, call
from dwdp_lab.execute.cuda.gpu.gate import FlagGate


class CudaEvent:
    """A torch event. A timed one is `external`: in a capture it becomes a node that every replay records, of which the
    time can be asked. Untimed ones become dependencies there, which leave no trace."""

    def __init__(self, timed: bool) -> None:
        self.event: torch.cuda.Event = torch.cuda.Event(  # type: ignore[no-untyped-call]
            enable_timing=timed, external=timed
        )


class CudaGraph:
    """A torch CUDA graph with memory of its own, or shared with a graph that runs before it."""

    def __init__(self) -> None:
        self.graph: torch.cuda.CUDAGraph = torch.cuda.CUDAGraph()


WORD = 0xFFFFFFFF
AHEAD: dict[str, int] = {"comm": -1, "push": -1}
"""Priority of streams by name, the lowest first: a collective that runs beside compute is to get the next processors
that a kernel leaves, and not to wait, with all peers, until all of the kernel's programs have begun."""


class CudaStream:
    """A torch stream, never the default one, which others wait for. `way` is how it hands its copies over."""

    def __init__(self, name: str, device: torch.device, ways: dict[CopyWay, Issue], driver: Any) -> None:
        self.name = name
        self.stream: torch.cuda.Stream = torch.cuda.Stream(device, AHEAD.get(name, 0))  # type: ignore[no-untyped-call]
        self.handle: int = self.stream.cuda_stream
        self.way: CopyWay = "plain"
        self._ways = ways
        self._driver = driver

    def run(self, work: Callable[[], None]) -> None:
        with torch.cuda.stream(self.stream):
            work()

    def copy(self, copies: Sequence[Copy]) -> None:
        way: CopyWay = "plain" if self.way == "batched" and self._captures() else self.way
        self._ways[way](copies, self.handle)

    def _captures(self) -> bool:
        with torch.cuda.stream(self.stream):
            return torch.cuda.is_current_stream_capturing()

    def wait(self, event: Event) -> None:
        self.stream.wait_event(_cuda_event(event))

    def record(self, event: Event) -> None:
        _cuda_event(event).record(self.stream)

    def uses(self, tensor: Tensor) -> None:
        tensor.record_stream(self.stream)

    def write_value(self, address: int, value: int) -> None:
        # the default makes all that was written before seen by who sees the word, on every device
        flags = int(self._driver.CUstreamWriteValue_flags.CU_STREAM_WRITE_VALUE_DEFAULT)
        answer = self._driver.cuStreamWriteValue32(self.handle, address, value & WORD, flags)
        check(answer, f"writing a word at {address:#x}")

    def wait_value(self, address: int, value: int) -> None:
        at_least = int(self._driver.CUstreamWaitValue_flags.CU_STREAM_WAIT_VALUE_GEQ)
        answer = self._driver.cuStreamWaitValue32(self.handle, address, value & WORD, at_least)
        check(answer, f"waiting for a word at {address:#x}")

    def replay(self, graph: Graph) -> None:
        with torch.cuda.stream(self.stream):
            _cuda_graph(graph).graph.replay()


class CudaDevice:
    """The GPU that this thread has made its current one. Raises ImportError without cuda-python's bindings.

    Peers' memory is reached through mappings that carry their own access rights (cuMemSetAccess), so no context is
    made on other GPUs, before there is a stream on them: each takes some hundred MB there.
    """

    def __init__(self, torch_device: torch.device, memory: Memory) -> None:
        self.torch_device = torch_device
        self.memory = memory
        self._runtime: Any = importlib.import_module("cuda.bindings.runtime")
        self._driver: Any = importlib.import_module("cuda.bindings.driver")
        # the bindings have a runtime of their own, with a current device of its own
        check(self._runtime.cudaSetDevice(torch_device.index), f"choosing GPU {torch_device.index}")
        self._ways: dict[CopyWay, Issue] = {"plain": plain(self._runtime)}
        if (in_one_call := batched(self._runtime)) is not None:
            self._ways["batched"] = in_one_call
        self._flag: tuple[int, int] | None = None

    @property
    def copy_ways(self) -> tuple[CopyWay, ...]:
        """What the installed CUDA offers; `plain` is always there."""
        return tuple(self._ways)

    def stream(self, name: str) -> CudaStream:
        return CudaStream(name, self.torch_device, self._ways, self._driver)

    def stream_on(self, gpu: int, name: str) -> CudaStream:
        return CudaStream(name, torch.device("cuda", gpu), self._ways, self._driver)

    def why_no_values(self) -> str | None:
        # of the first interface, which needed a switch of the kernel's module, there is an attribute of its own
        known = self._driver.CUdevice_attribute
        attribute = getattr(known, "CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS", None)
        if attribute is None:
            return "the driver's bindings know no memory operations of streams: update cuda-bindings"
        asked = f"memory operations of streams on GPU {self.torch_device.index}"
        try:
            offered = call(self._driver, "cuDeviceGetAttribute", attribute, self.torch_device.index, asked=asked)
        except DriverError as error:
            return str(error)
        return None if offered else "the GPU's streams have no memory operations"

    def event(self, timed: bool = False) -> CudaEvent:
        return CudaEvent(timed)

    def hold(self, streams: Sequence[Stream]) -> Gate | None:
        try:
            return FlagGate(self._driver, self._flag_word(), [cuda_stream(stream).handle for stream in streams])
        except CudaCallFailed:  # some virtual GPUs have no stream memory operations
            return None

    def _flag_word(self) -> tuple[int, int]:
        if self._flag is None:
            runtime = self._runtime
            flags = runtime.cudaHostAllocMapped | runtime.cudaHostAllocPortable
            (host,) = check(runtime.cudaHostAlloc(4, flags), "pinning the gate's flag")
            (device,) = check(runtime.cudaHostGetDevicePointer(host, 0), "mapping the gate's flag")
            self._flag = int(host), int(device)
        return self._flag

    @contextmanager
    def capture(self, stream: Stream, after: Graph | None = None) -> Iterator[Graph]:
        made = CudaGraph()
        pool = None if after is None else _cuda_graph(after).graph.pool()
        # thread_local: NCCL's watchdog looks at events in a thread of its own, which `global` would forbid
        with torch.cuda.graph(made.graph, pool, cuda_stream(stream).stream, capture_error_mode="thread_local"):
            yield made

    def elapsed_us(self, first: Event, second: Event) -> float:
        milliseconds: float = _cuda_event(first).elapsed_time(_cuda_event(second))
        return 1e3 * milliseconds

    def wait(self, event: Event) -> None:
        _cuda_event(event).synchronize()

    def synchronize(self) -> None:
        torch.cuda.synchronize(self.torch_device)


def _cuda_event(event: Event) -> torch.cuda.Event:
    if not isinstance(event, CudaEvent):
        raise TypeError(f"{event} is an event of another kind of device")
    return event.event


def _cuda_graph(graph: Graph) -> CudaGraph:
    if not isinstance(graph, CudaGraph):
        raise TypeError(f"{graph} is a graph of another kind of device")
    return graph


def cuda_stream(stream: Stream) -> CudaStream:
    """The stream, known to be of this kind of device. Raises TypeError for another."""
    if not isinstance(stream, CudaStream):
        raise TypeError(f"{stream} is a stream of another kind of device")
    return stream
