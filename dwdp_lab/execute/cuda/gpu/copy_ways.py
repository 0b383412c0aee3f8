"""Which way of handing copies over a stream takes: as wished, or the faster one, tried on the copies themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dwdp_lab.execute.cuda.gpu.copy_calls import CopyWay, CudaCallFailed
from dwdp_lab.execute.cuda.gpu.cuda_device import CudaDevice, CudaStream, cuda_stream
from dwdp_lab.execute.cuda.gpu.device import Copy, Stream
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.strategy import CopyCalls

WORTH_IT = 0.97
"""A way other than the first is taken when it needs no more than this share of the first one's time: times vary by a
per cent or two, and the same copies should not be made now this way and now that."""


class Chosen(NamedTuple):
    """The way that a stream takes, and why not another one that CUDA offers, where it has refused these copies."""

    way: CopyWay
    refused: str = ""

    def __str__(self) -> str:
        return f"{self.way} ({self.refused})" if self.refused else self.way


class CopyWays:
    """How copies are handed over, kept by their number and size: trying takes some pulls' time."""

    def __init__(self, device: CudaDevice) -> None:
        self.device = device
        self._found: dict[tuple[int, int], Chosen] = {}

    def set(self, stream: Stream, copies: Sequence[Copy], wish: CopyCalls) -> str:
        """What SetCopyWay says (rank_machine.py)."""
        mine = cuda_stream(stream)
        if wish == "plain":
            mine.way = wish
            return wish
        if wish == "batched":
            self._take_batches(mine, copies)
            return wish
        kind = len(copies), max(copy.nbytes for copy in copies)
        if kind not in self._found:
            self._found[kind] = choose_copy_way(self.device, mine, copies, self.device.copy_ways)
        chosen = self._found[kind]
        mine.way = chosen.way
        return str(chosen)

    def _take_batches(self, stream: CudaStream, copies: Sequence[Copy]) -> None:
        """Raises ScenarioError now for what would fail in the middle of a step."""
        if "batched" not in self.device.copy_ways:
            reason = "batched copies came with CUDA 12.8; the bindings here lack them"
            raise ScenarioError("strategy.copy_calls", "batched", reason, "take auto or plain")
        try:
            _copy_us(self.device, stream, copies, "batched")
        except CudaCallFailed as refusal:
            reason = f"CUDA refuses to make these copies in one call ({refusal})"
            raise ScenarioError("strategy.copy_calls", "batched", reason, "take auto or plain") from None


def choose_copy_way(
    device: CudaDevice, stream: CudaStream, copies: Sequence[Copy], ways: Sequence[CopyWay], repeats: int = 3
) -> Chosen:
    """The fastest of these ways to make exactly these copies, tried on this machine; the stream takes it from now on.

    A call costs the host a few microseconds, so which way is faster follows from how many copies there are and how
    long each is on its way. The host blocks meanwhile. A way other than the first that CUDA refuses is out.
    """
    best: dict[CopyWay, float] = {}
    refused: list[str] = []
    for way in ways if len(copies) > 1 and len(ways) > 1 else ():  # of one copy, or in one way, there is no choice
        try:
            best[way] = min(_copy_us(device, stream, copies, way) for _ in range(repeats))
        except CudaCallFailed as refusal:
            if way == ways[0]:
                raise
            refused.append(f"{way}: {refusal}")
    first = ways[0]
    stream.way = min(best, key=lambda way: best[way] * (WORTH_IT if way == first else 1.0)) if best else first
    return Chosen(stream.way, "; ".join(refused))


def _copy_us(device: CudaDevice, stream: CudaStream, copies: Sequence[Copy], way: CopyWay) -> float:
    stream.way = way
    first, last = device.event(timed=True), device.event(timed=True)
    stream.record(first)
    stream.copy(copies)
    stream.record(last)
    device.wait(last)
    return device.elapsed_us(first, last)
