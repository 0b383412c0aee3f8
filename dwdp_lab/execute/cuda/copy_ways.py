"""Which way of handing copies over a stream takes: as wished, or the faster one, tried on the copies themselves."""

from __future__ import annotations

from collections.abc import Sequence

from dwdp_lab.execute.cuda.copy_calls import CopyWay
from dwdp_lab.execute.cuda.cuda_device import CudaDevice, CudaStream, cuda_stream
from dwdp_lab.execute.cuda.device import Copy, Stream
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.strategy import CopyCalls


class CopyWays:
    """How copies are handed over, kept by their number and size: trying takes some pulls' time."""

    def __init__(self, device: CudaDevice) -> None:
        self.device = device
        self._found: dict[tuple[int, int], CopyWay] = {}

    def set(self, stream: Stream, copies: Sequence[Copy], wish: CopyCalls) -> str:
        """What SetCopyWay says (rank_machine.py)."""
        mine = cuda_stream(stream)
        offered = self.device.copy_ways
        kind = len(copies), max(copy.nbytes for copy in copies)
        if wish in offered:
            mine.way = wish
        elif wish == "batched":
            raise ScenarioError(
                "strategy.copy_calls", wish, "batched copies came with CUDA 12.8; the bindings here lack them"
            )
        elif kind in self._found:
            mine.way = self._found[kind]
        else:
            self._found[kind] = choose_copy_way(self.device, mine, copies, offered)
        return mine.way


def choose_copy_way(
    device: CudaDevice, stream: CudaStream, copies: Sequence[Copy], ways: Sequence[CopyWay], repeats: int = 3
) -> CopyWay:
    """The fastest of these ways to make exactly these copies, tried on this machine; the stream takes it from now on.

    A call costs the host a few microseconds, so which way is faster follows from how many copies there are and how
    long each is on its way. The host blocks meanwhile.
    """
    if len(copies) > 1 and len(ways) > 1:
        best = {way: min(_copy_us(device, stream, copies, way) for _ in range(repeats)) for way in ways}
        stream.way = min(best, key=lambda way: best[way])
    else:
        stream.way = ways[0]
    return stream.way


def _copy_us(device: CudaDevice, stream: CudaStream, copies: Sequence[Copy], way: CopyWay) -> float:
    stream.way = way
    first, last = device.event(timed=True), device.event(timed=True)
    stream.record(first)
    stream.copy(copies)
    stream.record(last)
    device.wait(last)
    return device.elapsed_us(first, last)
