"""The links: concurrent pulls share each source's egress and each reader's ingress fairly.

A rank runs one pull at a time, one stage of it at a time; a stage takes bytes from its sources in fixed proportion.
Times in microseconds, rates in bytes per microsecond.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from dwdp_lab.program.operation import Stage


class Change(NamedTuple):
    """The stage a rank is in ends at `end_us`, unless `current` of that rank has gone on to another version by then."""

    rank: int
    end_us: float
    version: int


class Links(Protocol):
    """What the machine needs of the links."""

    def start(self, rank: int, stage: Stage, now_us: float) -> list[Change]:
        """A rank starts a stage. Returns the ends to come that this changes, at least the first of them."""
        ...

    def end(self, rank: int, now_us: float) -> list[Change]:
        """The rank's stage has ended: its share goes to the others."""
        ...

    def current(self, rank: int) -> int:
        """The version that counts for the rank; changes of older ones are void."""
        ...


class _Flow:
    """A running stage: what is left, how fast it goes, and when that was true."""

    __slots__ = ("left", "rank", "rate", "since", "stage", "version")

    def __init__(self, rank: int, stage: Stage, now_us: float, version: int) -> None:
        self.rank = rank
        self.stage = stage
        self.left = stage.nbytes
        self.rate = 0.0
        self.since = now_us
        self.version = version

    def set_rate(self, rate: float, now_us: float) -> Change:
        if self.rate:
            self.left = max(0.0, self.left - self.rate * (now_us - self.since))
        self.rate = rate
        self.since = now_us
        self.version += 1
        return Change(self.rank, now_us + self.left / rate, self.version)


class PrivateLinks:
    """Every pull has a link of its own: nobody shares, nobody slows another (and an infinite rate takes no time)."""

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def start(self, rank: int, stage: Stage, now_us: float) -> list[Change]:
        return [Change(rank, now_us + stage.nbytes / self.rate, 0)]

    def end(self, rank: int, now_us: float) -> list[Change]:
        del rank, now_us
        return []

    def current(self, rank: int) -> int:
        del rank
        return 0


class _Source:
    """A source and its readers, all served at one rate: `progress` is what each has received since it began."""

    __slots__ = ("progress", "rate", "readers", "since", "version")

    def __init__(self) -> None:
        self.progress = 0.0  # bytes per reader
        self.rate = 0.0
        self.since = 0.0
        self.readers: list[tuple[float, int]] = []  # heap of (progress at which it has all its bytes, rank)
        self.version = 0


class OneSourceLinks:
    """All stages have one source, so a source's k readers get 1/k of it each (at most their own ingress).

    As they all go equally fast, one number per source says how far they are, and only the reader that is done first
    needs an event: the common case, and the fast one.
    """

    def __init__(self, egress: float, ingress: float) -> None:
        self.egress = egress
        self.ingress = ingress
        self._sources: dict[int, _Source] = {}
        self._source_of: dict[int, _Source] = {}
        self._versions = 0

    def start(self, rank: int, stage: Stage, now_us: float) -> list[Change]:
        peer, nbytes = stage.sources[0]
        source = self._sources.get(peer)
        if source is None:
            source = self._sources[peer] = _Source()
        self._source_of[rank] = source
        source.progress += source.rate * (now_us - source.since)
        heapq.heappush(source.readers, (source.progress + nbytes, rank))
        return self._share(source, now_us)

    def end(self, rank: int, now_us: float) -> list[Change]:
        source = self._source_of.pop(rank)
        source.progress, _ = heapq.heappop(source.readers)  # exactly there: no rounding adds up
        return self._share(source, now_us)

    def current(self, rank: int) -> int:
        source = self._source_of.get(rank)
        return -1 if source is None else source.version

    def _share(self, source: _Source, now_us: float) -> list[Change]:
        source.since = now_us
        if not source.readers:
            source.rate = 0.0
            return []
        source.rate = min(self.egress / len(source.readers), self.ingress)
        self._versions += 1
        source.version = self._versions
        target, rank = source.readers[0]
        return [Change(rank, now_us + (target - source.progress) / source.rate, source.version)]


@dataclass
class SharedLinks:
    """Stages with several sources: max-min fair rates by progressive filling.

    All stages speed up together until some source's egress or some reader's ingress is full; the stages that use it
    keep that rate, the others go on.
    """

    egress: float
    ingress: float
    _flows: dict[int, _Flow] = field(default_factory=dict)
    _version: dict[int, int] = field(default_factory=dict)

    def start(self, rank: int, stage: Stage, now_us: float) -> list[Change]:
        self._flows[rank] = _Flow(rank, stage, now_us, self._version.get(rank, 0))
        return self._share(now_us)

    def end(self, rank: int, now_us: float) -> list[Change]:
        self._version[rank] = self._flows.pop(rank).version + 1
        return self._share(now_us)

    def current(self, rank: int) -> int:
        flow = self._flows.get(rank)
        return self._version[rank] if flow is None else flow.version

    def _share(self, now_us: float) -> list[Change]:
        rates = fair_rates({rank: flow.stage for rank, flow in self._flows.items()}, self.egress, self.ingress)
        return [
            flow.set_rate(rates[rank], now_us)
            for rank, flow in self._flows.items()
            if not math.isclose(flow.rate, rates[rank], rel_tol=1e-12)
        ]


def fair_rates(stages: dict[int, Stage], egress: float, ingress: float) -> dict[int, float]:
    """Max-min fair rate of each reader's stage (bytes per microsecond)."""
    shares: dict[int, list[tuple[int, float]]] = {}  # source -> (reader, share of the reader's bytes)
    for rank, stage in stages.items():
        total = stage.nbytes
        for source, nbytes in stage.sources:
            shares.setdefault(source, []).append((rank, nbytes / total))
    rates: dict[int, float] = {}
    room = dict.fromkeys(shares, egress)
    while len(rates) < len(stages):
        level, tightest = ingress, -1
        for source, readers in shares.items():
            demand = sum([share for rank, share in readers if rank not in rates])
            if demand > 0 and room[source] / demand < level:
                level, tightest = room[source] / demand, source
        if tightest < 0:
            full = [rank for rank in stages if rank not in rates]
        else:
            full = [rank for rank, _ in shares[tightest] if rank not in rates]
        for rank in full:
            rates[rank] = level
        settled = set(full)
        for source, readers in shares.items():
            room[source] -= sum([level * share for rank, share in readers if rank in settled])
    return rates
