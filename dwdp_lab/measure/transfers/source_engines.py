"""Copies by the engines of the GPU that is read from, queued by the reader: to see what reading costs.

A copy runs on an engine of the GPU whose stream it is queued on, whoever queues it. An engine of the reader's asks for
the data over the link, and where both ends read at once these requests take of the room for data; an engine of the
source's just sends. Two H200s that read from each other so reach 391 GB/s each instead of 373, as much as one alone.

Pulls do not go this way all the same. It takes a context on the source's GPU, 0.2 GB of it, whose copies have to take
turns with what the rank there does: in a run of DWDP between two H200s the median pull took anything from 1.55 to
2.1 ms, by the reader's own engines always 1.63.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from dwdp_lab.execute.cuda.gpu.device import Copy, Device, Event, Stream


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

    def copy(self, stream: Stream, copies: Sequence[Copy]) -> None:
        """Queue copies as if on the stream: after all that it was given so far, before all that it is given later."""
        by_gpu: dict[int, list[Copy]] = {}
        for one in copies:
            by_gpu.setdefault(self._gpu_of(one), []).append(one)
        stream.record(self._begun)
        for gpu, some in by_gpu.items():
            there = self.streams[gpu]
            there.wait(self._begun)
            there.copy(some)
            there.record(self._ended[gpu])
        for gpu in by_gpu:
            stream.wait(self._ended[gpu])

    def _gpu_of(self, one: Copy) -> int:
        for gpu, behind in self.sources.items():
            if behind.holds(one.source):
                return gpu
        raise ValueError(f"address {one.source:#x} is no source's")


def open_engines(device: Device, sources: Mapping[int, Range], targets: Iterable[Range]) -> SourceEngines:
    """Let the sources' GPUs write the targets, and make a stream on each of them.

    Raises DriverError where they cannot reach this GPU's memory.
    """
    reached = list(targets)
    for gpu, behind in sources.items():
        for each in (behind, *reached):
            device.memory.open_to(gpu, each.address, each.nbytes)
    streams = {gpu: device.stream_on(gpu, "copies by the source") for gpu in sources}
    return SourceEngines(device, streams, sources)
