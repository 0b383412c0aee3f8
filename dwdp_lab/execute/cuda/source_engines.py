"""Pulls by the copy engines of the GPU that the weights lie on, queued by their reader.

A copy runs on an engine of the GPU whose stream it is queued on, whoever queues it. An engine of the reader's asks for
the data over the link, and where both ends pull at once these requests take of the room for data: on two H200s 373 GB/s
are left of 391 each way (data/measured/h200-pair-ranks.json, "engines"). An engine of the source's just sends. So the
reader keeps a stream on each source's GPU and queues its pulls there; the rank there has no part in it.

The price is a context on that GPU, which takes 0.2 GB of it. An engine serves one process at a time, in turns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from dwdp_lab.execute.cuda.device import Copy, Device, Event, Stream
from dwdp_lab.execute.cuda.transport import Transport
from dwdp_lab.execute.messages import Order
from dwdp_lab.scenario.errors import ScenarioError


class Range(NamedTuple):
    """Addresses, as they are mapped here."""

    address: int
    nbytes: int

    def holds(self, address: int) -> bool:
        return self.address <= address < self.address + self.nbytes


class SourceEngines:
    """`streams` by GPU; `sources`: where what each GPU keeps is mapped here."""

    def __init__(self, device: Device, streams: Mapping[int, Stream], sources: Mapping[int, Range]) -> None:
        self.streams = streams
        self.sources = sources
        self._begun = device.event()
        self._ended: dict[int, Event] = {gpu: device.event() for gpu in streams}

    def copy(self, lane: Stream, copies: Sequence[Copy]) -> None:
        """Queue copies as if on the lane: after all that it was given so far, before all that it is given later."""
        by_gpu: dict[int, list[Copy]] = {}
        for one in copies:
            by_gpu.setdefault(self._gpu_of(one), []).append(one)
        lane.record(self._begun)
        for gpu, some in by_gpu.items():
            stream = self.streams[gpu]
            stream.wait(self._begun)
            stream.copy(some)
            stream.record(self._ended[gpu])
        for gpu in by_gpu:
            lane.wait(self._ended[gpu])

    def _gpu_of(self, one: Copy) -> int:
        for gpu, behind in self.sources.items():
            if behind.holds(one.source):
                return gpu
        raise ValueError(f"address {one.source:#x} is no source's")


def open_engines(
    device: Device, streams: dict[int, Stream], sources: Mapping[int, Range], targets: Iterable[Range]
) -> SourceEngines:
    """Let the sources' GPUs write the targets, and keep a stream on each of them in `streams`.

    A rank's GPU has its number. Raises DriverError where they cannot reach this GPU's memory.
    """
    reached = list(targets)
    for gpu, behind in sources.items():
        if gpu not in streams:
            streams[gpu] = device.stream_on(gpu, "copies by the source")
        for each in (behind, *reached):
            device.memory.open_to(gpu, each.address, each.nbytes)
    return SourceEngines(device, streams, sources)


def by_source(order: Order, transport: Transport, own_gpus: bool) -> bool:
    """Whether an order's pulls are made by the sources' engines. `own_gpus`: each rank has a GPU of its own.

    Left to itself, a group of two with whole shares does so, where that was measured to be faster. Raises ScenarioError
    where it is asked for and cannot be.
    """
    strategy = order.scenario.strategy
    if strategy.copy_engines == "reader" or order.graph:
        return False
    against = None
    if not own_gpus:
        against = "ranks share GPUs here"
    elif not transport.composable:
        against = f"ranks here share memory by {transport.words}, which other GPUs cannot be let into"
    if strategy.copy_engines == "auto":
        return against is None and order.scenario.ranks == 2 and strategy.slice_bytes is None
    if against is not None:
        raise ScenarioError("strategy.copy_engines", "source", f"cannot be: {against}", "take auto or reader")
    return True
