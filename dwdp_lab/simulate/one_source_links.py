"""Links for stages with one source each, as copies of whole shares make them: the common case, and the fast one.

A source's k readers get 1/k of its egress each, at most what a reader can take in or what joins the two. As they all
go equally fast, one number per source says how far they are, and only the reader that is done first needs an event.
Even one reader takes all of its source's egress, so who is read from is as disturbed as who reads.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from dwdp_lab.program.operation import Stage
from dwdp_lab.simulate.links import Finished


class _Source:
    """A source and its readers, all served at one rate: `progress` is what each has received since it began."""

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


class _Traffic:
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
        self.level_us: dict[int, float] = {}
        self._sources = [_Source(peer) for peer in range(ranks)]
        self._readers = [_Reader() for _ in range(ranks)]
        self._traffic = [_Traffic() for _ in range(ranks)]
        self._heap: list[tuple[float, int, _Source]] = []
        self._versions = 0

    def start(self, rank: int, stages: Sequence[Stage], now_us: float) -> None:
        reader = self._readers[rank]
        reader.stages = stages
        reader.place = 0
        self._traffic[rank].one_more(now_us)
        self._begin(rank, stages[0], now_us)

    def _begin(self, rank: int, stage: Stage, now_us: float) -> None:
        peer, nbytes = stage.sources[0]
        source = self._sources[peer]
        if source.readers:
            self._progress(source, now_us)
        else:
            self._traffic[peer].one_more(now_us)
        heapq.heappush(source.readers, (source.progress + nbytes, rank))
        self._share(source, now_us)

    def run(self, until_us: float) -> Finished | None:
        heap = self._heap
        while heap and heap[0][0] <= until_us:
            now_us, version, source = heapq.heappop(heap)
            if version != source.version:
                continue  # its rate has changed since
            self._progress(source, now_us)
            source.progress, rank = heapq.heappop(source.readers)  # exactly there: no rounding adds up
            self._share(source, now_us)
            reader = self._readers[rank]
            reader.place += 1
            if reader.place == len(reader.stages):
                self._traffic[rank].one_less(now_us)
                return Finished(now_us, rank)
            self._begin(rank, reader.stages[reader.place], now_us)
        return None

    def _progress(self, source: _Source, now_us: float) -> None:
        took = now_us - source.since
        if took > 0.0:
            count = len(source.readers)
            source.progress += source.rate * took
            self.level_us[count] = self.level_us.get(count, 0.0) + took * count

    def _share(self, source: _Source, now_us: float) -> None:
        source.since = now_us
        readers = source.readers
        self._versions += 1
        source.version = self._versions
        if not readers:
            self._traffic[source.peer].one_less(now_us)
            return
        rate = self.egress / len(readers)
        source.rate = rate = rate if rate < self.most else self.most
        heapq.heappush(self._heap, (now_us + (readers[0][0] - source.progress) / rate, self._versions, source))

    def disturbed_us(self, rank: int, now_us: float) -> float:
        traffic = self._traffic[rank]
        return traffic.disturbed_us + (now_us - traffic.since if traffic.transfers else 0.0)

    def disturbance(self, rank: int) -> float:
        return 1.0 if self._traffic[rank].transfers else 0.0
