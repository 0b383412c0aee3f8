"""What the machine needs of the links, and the simplest ones: every pull on a link of its own.

A rank runs one pull at a time, one stage of it at a time; a stage takes bytes from its sources in fixed proportion.
Times in microseconds, rates in bytes per microsecond.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from dwdp_lab.program.operation import Stage


class Finished(NamedTuple):
    """A pull has all its bytes."""

    end_us: float
    rank: int


class Nodes(NamedTuple):
    """Ranks 0 to `size` - 1 share a node (or rack), the next `size` another, and so on.

    `rate` is what one rank can send to, and receive from, all other nodes together. It is part of what the rank can
    send and receive at all, so with a rate as high as that, nodes make no difference.
    """

    size: int
    rate: float

    def far(self, rank: int, other: int) -> bool:
        """The two are not on one node."""
        return rank // self.size != other // self.size


class Links(Protocol):
    """Pulls in virtual time. The machine never lets time pass a stage's end without `run`."""

    def start(self, rank: int, stages: Sequence[Stage], now_us: float) -> None:
        """A rank starts a pull of one or more stages."""
        ...

    def run(self, until_us: float) -> Finished | None:
        """Go on until a pull has finished, at most until then."""
        ...

    def disturbed(self, rank: int, now_us: float) -> tuple[float, float]:
        """For how long so far transfers have disturbed the rank, and how much they do now, whose integral that is: 1
        while it pulls, else what it sends as a share of its egress.

        That a pull counts whole at whatever rate is what fits: so the slowdown of attention that the paper measures by
        itself (arXiv 2604.01621, Table 7: 1.226) also gives its time in a whole iteration (Table 1).
        """
        ...


class PrivateLinks:
    """Every pull has a link of its own: nobody shares, nobody slows another (and an infinite rate takes no time).

    Whom a pull reads from does not notice it.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._heap: list[tuple[float, int]] = []
        self._began_us: dict[int, float] = {}
        self._disturbed_us: dict[int, float] = {}

    def start(self, rank: int, stages: Sequence[Stage], now_us: float) -> None:
        self._began_us[rank] = now_us
        heapq.heappush(self._heap, (now_us + math.fsum(stage.nbytes for stage in stages) / self.rate, rank))

    def run(self, until_us: float) -> Finished | None:
        if not self._heap or self._heap[0][0] > until_us:
            return None
        end_us, rank = heapq.heappop(self._heap)
        self._disturbed_us[rank] = self._disturbed_us.get(rank, 0.0) + end_us - self._began_us.pop(rank)
        return Finished(end_us, rank)

    def disturbed(self, rank: int, now_us: float) -> tuple[float, float]:
        so_far_us = self._disturbed_us.get(rank, 0.0)
        if rank in self._began_us:
            return so_far_us + (now_us - self._began_us[rank]), 1.0
        return so_far_us, 0.0
