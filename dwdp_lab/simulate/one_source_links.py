"""Links for stages with one source each, as copies of whole shares make them: the common case, and the fast one.

A source's k readers get 1/k of its egress each, at most what a reader can take in or what joins the two. As they all
go equally fast, one number per source says how far they are, and only the reader that is done first needs an event.
Readers on other nodes, if there are any, are a second such queue, whose share is limited by what joins the nodes.
Even one reader takes all it can of its source's egress, so who is read from is as disturbed as who reads.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from dwdp_lab.program.operation import Stage
from dwdp_lab.simulate.links import Finished, Nodes


class _Queue:
    """A source's readers of one kind, all served at one rate: `progress` is what each has received since it began."""

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
    """`egress`, `ingress`: what one rank can send and receive; `pair`: what goes from one rank to another of its node
    at most; `nodes`: which ranks share a node, and what joins the nodes (None: all are on one).

    `level_us[k]` is the time that readers spent on sources with k readers.
    """

    def __init__(
        self, ranks: int, egress: float, ingress: float, pair: float | None = None, nodes: Nodes | None = None
    ) -> None:
        self.egress = egress
        self.most = ingress if pair is None else min(ingress, pair)
        self.nodes = nodes
        self.level_us: dict[int, float] = {}
        kinds = 1 if nodes is None else 2
        self._sources = [tuple([_Queue(peer) for _ in range(kinds)]) for peer in range(ranks)]  # near, far readers
        self._readers = [_Reader() for _ in range(ranks)]
        self._traffic = [_Traffic() for _ in range(ranks)]
        self._heap: list[tuple[float, int, _Queue]] = []
        self._versions = 0

    def start(self, rank: int, stages: Sequence[Stage], now_us: float) -> None:
        reader = self._readers[rank]
        reader.stages = stages
        reader.place = 0
        self._traffic[rank].one_more(now_us)
        self._begin(rank, stages[0], now_us)

    def _begin(self, rank: int, stage: Stage, now_us: float) -> None:
        peer, nbytes = stage.sources[0]
        queues = self._sources[peer]
        if not self._progress(queues, now_us):
            self._traffic[peer].one_more(now_us)
        queue = queues[0] if self.nodes is None or not self.nodes.far(rank, peer) else queues[1]
        heapq.heappush(queue.readers, (queue.progress + nbytes, rank))
        self._share(queues, now_us)

    def run(self, until_us: float) -> Finished | None:
        heap = self._heap
        while heap and heap[0][0] <= until_us:
            now_us, version, queue = heapq.heappop(heap)
            if version != queue.version:
                continue  # its rate has changed since
            queues = self._sources[queue.peer]
            self._progress(queues, now_us)
            queue.progress, rank = heapq.heappop(queue.readers)  # exactly there: no rounding adds up
            self._share(queues, now_us)
            reader = self._readers[rank]
            reader.place += 1
            if reader.place == len(reader.stages):
                self._traffic[rank].one_less(now_us)
                return Finished(now_us, rank)
            self._begin(rank, reader.stages[reader.place], now_us)
        return None

    def _progress(self, queues: tuple[_Queue, ...], now_us: float) -> int:
        """Note what a source's readers have received until now. Returns how many there are."""
        count = len(queues[0].readers)
        if len(queues) > 1:
            count += len(queues[1].readers)
        if count:
            took = now_us - queues[0].since
            if took > 0.0:
                for queue in queues:
                    queue.progress += queue.rate * took
                self.level_us[count] = self.level_us.get(count, 0.0) + took * count
        return count

    def _share(self, queues: tuple[_Queue, ...], now_us: float) -> None:
        """New rates after a reader has come or gone."""
        near = queues[0]
        count = len(near.readers)
        if len(queues) > 1:
            count += len(queues[1].readers)
        if not count:
            self._traffic[near.peer].one_less(now_us)
        else:
            rate = self.egress / count
            near.rate = rate if rate < self.most else self.most
            if len(queues) > 1:
                self._share_with_far(near, queues[1], rate)
        for queue in queues:
            queue.since = now_us
            self._versions += 1
            queue.version = self._versions
            if queue.readers:
                end_us = now_us + (queue.readers[0][0] - queue.progress) / queue.rate
                heapq.heappush(self._heap, (end_us, self._versions, queue))

    def _share_with_far(self, near: _Queue, far: _Queue, even: float) -> None:
        """Max-min fair rates of both kinds of readers: who cannot take an even part leaves the rest to the others."""
        if self.nodes is None or not far.readers:
            far.rate = 0.0
            return
        between = self.nodes.rate
        most_far = min(between / len(far.readers), self.egress)
        far.rate = min(even, most_far)
        if not near.readers:
            return
        if most_far < even:
            near.rate = min((self.egress - len(far.readers) * most_far) / len(near.readers), self.most)
        elif near.rate < even:
            far.rate = min((self.egress - len(near.readers) * near.rate) / len(far.readers), most_far)

    def disturbed_us(self, rank: int, now_us: float) -> float:
        traffic = self._traffic[rank]
        return traffic.disturbed_us + (now_us - traffic.since if traffic.transfers else 0.0)

    def disturbance(self, rank: int) -> float:
        return 1.0 if self._traffic[rank].transfers else 0.0
