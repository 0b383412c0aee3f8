"""Measuring transfers on rank processes: the machine, the samples by case, and their spread."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import NamedTuple, Protocol

import psutil

from dwdp_lab.execute.cpu.memory_need import PROCESS_BYTES
from dwdp_lab.execute.ranks import OnProgress, Ranks
from dwdp_lab.measure.transfers.transfers import (
    ABOUT,
    JOB,
    About,
    Case,
    MachineName,
    Plan,
    Report,
    Sample,
    Way,
    by_repeat,
)
from dwdp_lab.scenario.errors import ScenarioError

MIB = 1 << 20
EVICT: dict[MachineName, int] = {"cpu": 64 * MIB, "cuda": 128 * MIB}
"""More than the last cache of a processor or GPU of today holds, for most of them."""

Key = tuple[str | int | bool | None, ...]
"""What a case is, such as ("one", 65536)."""


class Machine(NamedTuple):
    """Where it is measured, what the ranks run on, and how busy the host was before (load average of a minute)."""

    name: MachineName
    abouts: tuple[About, ...]
    load: float

    @property
    def ranks(self) -> int:
        return len(self.abouts)

    @property
    def ways(self) -> tuple[Way, ...]:
        """How copies can be handed over, on every rank."""
        return tuple(way for way in self.abouts[0].ways if all(way in about.ways for about in self.abouts))


class Measured(NamedTuple):
    """What the ranks reported, in rank order, on each case of a plan."""

    machine: Machine
    plan: Plan
    reports: tuple[Report, ...]
    number: dict[Key, int]

    def turns(self, key: Key) -> list[dict[int, Sample]]:
        """For every repeat of a case the samples of the ranks that copied."""
        return by_repeat(self.reports, self.number[key])

    def together_us(self, key: Key) -> list[float]:
        """For every repeat the time from when the first rank began to when the last one ended."""
        return [
            max(one.end_us for one in turn.values()) - min(one.start_us for one in turn.values())
            for turn in self.turns(key)
        ]

    def nbytes(self, key: Key) -> int:
        """What all ranks copy in one repeat of a case."""
        case = self.plan.cases[self.number[key]]
        return case.rounds * sum(case.round_bytes(rank) for rank in range(self.machine.ranks))


class Options(Protocol):
    """What every bench of transfers can be told. `evict_bytes`: None for what EVICT says."""

    @property
    def repeats(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def evict_bytes(self) -> int | None: ...
    def rank_bytes(self, ranks: int) -> int:
        """What a rank shares and receives at most."""


def measure(
    ranks: Ranks,
    name: MachineName,
    options: Options,
    cases_of: Callable[[Machine], Mapping[Key, Case]],
    progress: OnProgress | None = None,
) -> Measured:
    """Start the ranks if need be, and measure the cases that suit what they run on.

    Raises ScenarioError for too little memory, and what `Ranks.perform` raises.
    """
    evict = EVICT[name] if options.evict_bytes is None else options.evict_bytes
    if name == "cpu":
        _check_fits(ranks.size, options.rank_bytes(ranks.size) + evict)
    load = os.getloadavg()[0]
    machine = Machine(name, tuple(ranks.perform(ABOUT, name)), load)
    cases = cases_of(machine)
    plan = Plan(name, tuple(cases.values()), options.repeats, options.seed, evict)
    reports = tuple(ranks.perform(JOB, plan, progress))
    return Measured(machine, plan, reports, {key: number for number, key in enumerate(cases)})


def _check_fits(ranks: int, rank_bytes: int) -> None:
    """Raise ScenarioError when CPU ranks that share, receive and write so much would need more memory than is free."""
    needed = ranks * (rank_bytes + PROCESS_BYTES)
    free = psutil.virtual_memory().available
    if needed > 0.9 * free:
        raise ScenarioError(
            "--ranks",
            ranks,
            f"CPU ranks need about {needed / 1e9:.1f} GB in all to copy so much, {free / 1e9:.1f} GB are free",
            "copy less at once (--largest, --share), or take fewer ranks",
        )


class Spread(NamedTuple):
    """Microseconds of repeats: the median, where the fastest tenth ends, and where the slowest begins."""

    median_us: float
    low_us: float
    high_us: float


def spread(times_us: Sequence[float]) -> Spread:
    """The spread of at least one time."""
    ordered = sorted(times_us)
    return Spread(median(ordered), _at(ordered, 0.1), _at(ordered, 0.9))


def _at(ordered: Sequence[float], share: float) -> float:
    """The value below which a share of the ordered values lies, interpolated."""
    place = share * (len(ordered) - 1)
    below = ordered[int(place)]
    return below + (ordered[min(int(place) + 1, len(ordered) - 1)] - below) * (place % 1)


def gbps(nbytes: float, took_us: float) -> float:
    """1e9 bytes per second."""
    return nbytes / took_us / 1e3
