"""One-source links between ranks of several nodes: a source's far readers are a second queue, with a rate of its own.

What joins the nodes limits the far readers together; what they leave of the source's egress, the near ones have.
"""

from __future__ import annotations

import heapq

from dwdp_lab.program.operation import Stage
from dwdp_lab.simulate.links import Nodes
from dwdp_lab.simulate.one_source_links import OneSourceLinks, Queue


class OneSourceNodes(OneSourceLinks):
    """`nodes`: which ranks share a node, and what joins the nodes; `pair` is what goes from one rank to another of its
    node at most."""

    def __init__(self, ranks: int, egress: float, ingress: float, pair: float | None, nodes: Nodes) -> None:
        super().__init__(ranks, egress, ingress, pair)
        self.nodes = nodes
        self._both = [(near, Queue(near.peer)) for near in self._queues]  # near, far readers

    def _join(self, rank: int, stage: Stage, now_us: float) -> None:
        ((peer, nbytes),) = stage.sources
        both = self._both[peer]
        if not self._progress(both, now_us):
            self._traffic[peer].one_more(now_us)
        queue = both[self.nodes.far(rank, peer)]
        heapq.heappush(queue.readers, (queue.progress + nbytes, rank))
        self._share_both(both, now_us)

    def _leave(self, queue: Queue, now_us: float) -> int:
        both = self._both[queue.peer]
        self._progress(both, now_us)
        queue.progress, rank = heapq.heappop(queue.readers)  # exactly there: no rounding adds up
        self._share_both(both, now_us)
        return rank

    def _progress(self, both: tuple[Queue, Queue], now_us: float) -> int:
        """Note what a source's readers have received until now. Returns how many there are."""
        near, far = both
        count = len(near.readers) + len(far.readers)
        took = now_us - near.since
        if count and took > 0.0:
            for queue in both:
                queue.progress += queue.rate * took
            self.level_us[count] = self.level_us.get(count, 0.0) + took * count
        return count

    def _share_both(self, both: tuple[Queue, Queue], now_us: float) -> None:
        """New rates after a reader has come or gone."""
        near, far = both
        count = len(near.readers) + len(far.readers)
        if count:
            even = self.egress / count
            near.rate = min(even, self.most)
            self._share_with_far(near, far, even)
        else:
            self._traffic[near.peer].one_less(now_us)
        for queue in both:
            queue.since = now_us
            self._versions = queue.version = self._versions + 1
            if queue.readers:
                end_us = now_us + (queue.readers[0][0] - queue.progress) / queue.rate
                heapq.heappush(self._heap, (end_us, queue.version, queue))

    def _share_with_far(self, near: Queue, far: Queue, even: float) -> None:
        """Max-min fair rates of both kinds of readers: who cannot take an even part leaves the rest to the others."""
        if not far.readers:
            far.rate = 0.0
            return
        most_far = min(self.nodes.rate / len(far.readers), self.egress)
        far.rate = min(even, most_far)
        if not near.readers:
            return
        if most_far < even:
            near.rate = min((self.egress - len(far.readers) * most_far) / len(near.readers), self.most)
        elif near.rate < even:
            far.rate = min((self.egress - len(near.readers) * near.rate) / len(far.readers), most_far)
