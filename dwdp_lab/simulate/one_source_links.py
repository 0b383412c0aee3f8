"""Links for stages with one source each, as copies of whole shares make them: the common case, and the fast one.

A source's k readers get 1/k of its egress each, at most what a reader can take in or what joins the two. As they all
go equally fast, one number per source says how far they are, and only the reader that is done first needs an event.
Even one reader takes all it can of its source's egress, so who is read from is as disturbed as who reads.

A group of 72 ranks and 61 layers has 300,000 stages: what is done for each of them is written out rather than called.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from heapq import heappop, heappush

from dwdp_lab.program.operation import Stage
from dwdp_lab.simulate.links import Finished


class Queue:
    """A source's readers, all served at one rate: `progress` is what each has received since it began."""

    __slots__ = ("peer", "progress", "rate", "readers", "since", "version")

    def __init__(self, peer: int) -> None:
        self.peer = peer
        self.progress = 0.0  # bytes per reader
        self.rate = 0.0  # of each reader
        self.since = 0.0
        self.readers: list[tuple[float, int]] = []  # heap of (progress at which it has all its bytes, rank)
        self.version = 0


class _Reader:
    """A rank's pull: its stages, and the one that runs."""

    __slots__ = ("place", "stages")

    def __init__(self) -> None:
        self.stages: Sequence[Stage] = ()
        self.place = 0


class Traffic:
    """How many transfers go into and out of a rank, and for how long there has been any."""

    __slots__ = ("disturbed_us", "since", "transfers")

    def __init__(self) -> None:
        self.transfers = 0
        self.since = 0.0
        self.disturbed_us = 0.0

    def one_more(self, now_us: float) -> None:
        if not self.transfers:
            self.since = now_us
        self.transfers += 1

    def one_less(self, now_us: float) -> None:
        self.transfers -= 1
        if not self.transfers:
            self.disturbed_us += now_us - self.since


class OneSourceLinks:
    """`egress`, `ingress`: what one rank can send and receive; `pair`: what goes from one rank to another at most.

    `level_us[k]` is the time that readers spent on sources with k readers.
    """

    def __init__(self, ranks: int, egress: float, ingress: float, pair: float | None = None) -> None:
        self.egress = egress
        self.most = ingress if pair is None else min(ingress, pair)
        self.level_us: dict[int, float] = defaultdict(float)
        self._queues = [Queue(peer) for peer in range(ranks)]
        self._readers = [_Reader() for _ in range(ranks)]
        self._traffic = [Traffic() for _ in range(ranks)]
        self._heap: list[tuple[float, int, Queue]] = []  # (when its first reader is done, version, whose)
        self._versions = 0
        self._rates = [0.0, *[min(egress / count, self.most) for count in range(1, ranks + 1)]]  # of so many readers

    def start(self, rank: int, stages: Sequence[Stage], now_us: float) -> None:
        reader = self._readers[rank]
        reader.stages = stages
        reader.place = 0
        self._traffic[rank].one_more(now_us)
        self._join(rank, stages[0], now_us)

    def run(self, until_us: float) -> Finished | None:
        heap = self._heap
        while heap and heap[0][0] <= until_us:
            now_us, version, queue = heappop(heap)
            if version != queue.version:
                continue  # its rate has changed since
            rank = self._leave(queue, now_us)
            reader = self._readers[rank]
            reader.place = place = reader.place + 1
            if place == len(reader.stages):
                self._traffic[rank].one_less(now_us)
                return Finished(now_us, rank)
            self._join(rank, reader.stages[place], now_us)
        return None

    def _join(self, rank: int, stage: Stage, now_us: float) -> None:
        """A rank begins a stage: one more reader at its source."""
        ((peer, nbytes),) = stage.sources
        queue = self._queues[peer]
        readers = queue.readers
        if readers:
            took, count = now_us - queue.since, len(readers)
            if took > 0.0:
                queue.progress += queue.rate * took
                self.level_us[count] += took * count
        else:
            traffic = self._traffic[peer]
            if not traffic.transfers:
                traffic.since = now_us
            traffic.transfers += 1
        heappush(readers, (queue.progress + nbytes, rank))
        self._share(queue, now_us)

    def _leave(self, queue: Queue, now_us: float) -> int:
        """The first of a source's readers has all its bytes. Returns which."""
        readers = queue.readers
        took, count = now_us - queue.since, len(readers)
        if took > 0.0:
            self.level_us[count] += took * count
        queue.progress, rank = heappop(readers)  # exactly there: no rounding adds up
        if readers:
            self._share(queue, now_us)
        else:
            traffic = self._traffic[queue.peer]
            traffic.transfers -= 1
            if not traffic.transfers:
                traffic.disturbed_us += now_us - traffic.since
        return rank

    def _share(self, queue: Queue, now_us: float) -> None:
        """The new rate after a reader has come or gone, and when the first is done at it."""
        readers = queue.readers
        queue.rate = rate = self._rates[len(readers)]
        queue.since = now_us
        self._versions = queue.version = version = self._versions + 1
        heappush(self._heap, (now_us + (readers[0][0] - queue.progress) / rate, version, queue))

    def disturbed(self, rank: int, now_us: float) -> tuple[float, float]:
        traffic = self._traffic[rank]
        if traffic.transfers:
            return traffic.disturbed_us + (now_us - traffic.since), 1.0
        return traffic.disturbed_us, 0.0
