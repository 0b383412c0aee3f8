"""Links for stages with several sources, as slices make them: max-min fair rates by progressive filling.

All stages speed up together until some source's egress or some reader's ingress is full; the stages that use it keep
that rate, the others go on. As long as no source is asked for more than it has, every reader goes as fast as it can.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dwdp_lab.program.operation import Stage
from dwdp_lab.simulate.links import Finished, Nodes

Floats = NDArray[np.float64]

ROUNDING = 1.0 + 1e-9
"""Shares that add up to all of a source but for rounding do not overload it."""


class SharedLinks:
    """`egress`, `ingress`: what one rank can send and receive; `pair`: what goes from one rank to another of its node
    at most; `nodes`: which ranks share a node, and what joins the nodes (None: all are on one).

    Rows and places of the arrays are ranks; row r of `_shares` says how the bytes of r's stage spread over its sources,
    and, in as many columns more where there are nodes, over those of them that are on other nodes.
    """

    def __init__(
        self, ranks: int, egress: float, ingress: float, pair: float | None = None, nodes: Nodes | None = None
    ) -> None:
        self.egress = egress
        self.ingress = ingress
        self.pair = pair
        self.nodes = nodes
        self._pulls: dict[int, Sequence[Stage]] = {}
        self._place = [0] * ranks
        self._now = 0.0
        self._stale = False  # a stage has begun or ended since the rates were worked out
        self._next: tuple[float, int] = (math.inf, -1)  # the stage that ends first: (when, rank)
        rates = [egress] if nodes is None else [egress, nodes.rate]
        self._capacity: Floats = np.repeat(rates, ranks)
        self._enough: Floats = self._capacity * ROUNDING
        self._shares: Floats = np.zeros((ranks, len(self._capacity)))
        self._most: Floats = np.zeros(ranks)  # each reader's rate if nobody else read; 0: none runs
        self._left: Floats = np.zeros(ranks)
        self._rate: Floats = np.zeros(ranks)
        self._disturbance: Floats = np.zeros(ranks)
        self._disturbed_us: Floats = np.zeros(ranks)
        self._known: dict[tuple[int, int], tuple[Stage, Floats, float]] = {}

    def start(self, rank: int, stages: Sequence[Stage], now_us: float) -> None:
        self._advance(now_us)
        self._pulls[rank] = stages
        self._place[rank] = 0
        self._begin(rank, stages[0])

    def run(self, until_us: float) -> Finished | None:
        while True:
            if self._stale:
                self._share()
            now_us, rank = self._next
            if now_us > until_us or not self._pulls:
                return None
            self._advance(now_us)
            self._left[rank] = 0.0
            self._place[rank] += 1
            stages = self._pulls[rank]
            if self._place[rank] == len(stages):
                del self._pulls[rank]
                self._most[rank] = 0.0
                self._shares[rank] = 0.0
                self._stale = True
                return Finished(now_us, rank)
            self._begin(rank, stages[self._place[rank]])

    def _begin(self, rank: int, stage: Stage) -> None:
        shares, most = self._spread(rank, stage)
        self._shares[rank] = shares
        self._most[rank] = most
        self._left[rank] = stage.nbytes
        self._stale = True

    def _spread(self, rank: int, stage: Stage) -> tuple[Floats, float]:
        """A stage's row of shares and the rate it can reach; layers use the same few stages again and again."""
        known = self._known.get((id(stage), rank))
        if known is None or known[0] is not stage:
            row = np.zeros(len(self._capacity))
            nbytes, ranks, nearest, far = stage.nbytes, len(self._most), 0.0, 0.0
            for source, part in stage.sources:
                row[source] = share = part / nbytes
                if self.nodes is not None and self.nodes.far(rank, source):
                    row[ranks + source] = share
                    far += share
                else:
                    nearest = max(nearest, share)
            most = self.ingress if self.pair is None or not nearest else min(self.ingress, self.pair / nearest)
            if self.nodes is not None and far:
                most = min(most, self.nodes.rate / far)
            known = self._known[id(stage), rank] = (stage, row, most)
        return known[1], known[2]

    def _advance(self, now_us: float) -> None:
        took = now_us - self._now
        if took > 0.0:
            if self._stale:
                self._share()
            self._left -= self._rate * took
            self._disturbed_us += self._disturbance * took
            self._now = now_us

    def _share(self) -> None:
        """New rates after stages have begun or ended; and who is done first at these."""
        self._stale = False
        wanted = self._most @ self._shares
        if (wanted <= self._enough).all():
            self._rate, sent = self._most.copy(), wanted
        else:
            self._rate = fill(self._shares, self._most, self._capacity)
            sent = self._rate @ self._shares
        sent = sent[: len(self._most)]
        self._disturbance = np.where(self._most > 0.0, 1.0, np.minimum(sent / self.egress, 1.0))
        running = list(self._pulls)
        if not running:
            self._next = (math.inf, -1)
            return
        ends = np.maximum(self._left[running], 0.0) / self._rate[running]
        first = int(ends.argmin())
        self._next = (self._now + float(ends[first]), running[first])

    def disturbed(self, rank: int, now_us: float) -> tuple[float, float]:
        pulls = rank in self._pulls
        if self._stale and (now_us > self._now or not pulls):
            self._share()
        disturbance = float(self._disturbance[rank])
        so_far_us = float(self._disturbed_us[rank]) + disturbance * (now_us - self._now)
        return so_far_us, 1.0 if pulls else disturbance


def fill(shares: Floats, most: Floats, egress: float | Floats) -> Floats:
    """Max-min fair rates of readers: row r of `shares` says how reader r's bytes spread over the sources.

    `most[r]` is what reader r can take at most (0: it does not read), `egress` what each source can give, one number
    for all or one each.
    """
    rates = np.zeros(len(most))
    rising = np.where(most > 0.0, 1.0, 0.0)
    room = np.zeros(shares.shape[1]) + egress
    while rising.any():
        demand = rising @ shares
        levels = np.where(demand > 1e-12, np.maximum(room, 0.0) / np.maximum(demand, 1e-12), np.inf)
        tightest = int(levels.argmin())
        level = float(most[rising > 0.0].min())
        if levels[tightest] < level:
            level = float(levels[tightest])
            full = rising * (shares[:, tightest] > 0.0)
        else:
            full = rising * (most <= level)
        rates += level * full
        room -= level * (full @ shares)
        rising -= full
    return rates
