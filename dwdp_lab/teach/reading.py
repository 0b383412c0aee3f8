"""Who reads from whom, copy by copy: the slow and obvious model of links that the lesson on contention draws.

The simulator needs only who is read at the same time, and is fast. Here every copy is followed, so that one can see
slices, and how many of them are in flight.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dwdp_lab.program.pull_plan import pull_plan
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.hardware import load_hardware
from dwdp_lab.simulate.waves import max_min

ROUNDING = 1e-3
"""Bytes; a copy with no more than that left has ended."""


class Copy(NamedTuple):
    """`nbytes` out of one source's memory."""

    source: int
    nbytes: float


class Reading(NamedTuple):
    """A copy that was made: who read from whom, and when."""

    rank: int
    source: int
    start_us: float
    end_us: float


@dataclass
class _Running:
    rank: int
    source: int
    start_us: float
    left: float  # bytes


def read_all(
    copies: Sequence[Sequence[Copy]], gbps: float, starts_us: Sequence[float] = (), in_flight: int = 1
) -> tuple[Reading, ...]:
    """All copies of all ranks: rank r makes `copies[r]` in order, from `starts_us[r]` on (default: all from 0).

    Each rank has at most `in_flight` copies going at once. A source sends, and a rank takes in, at most `gbps` (1e9
    bytes/s), shared max-min fairly.
    """
    most = 1e3 * gbps  # bytes per microsecond
    starts = list(starts_us) or [0.0] * len(copies)
    waiting = [list(reversed(of_rank)) for of_rank in copies]
    running: list[_Running] = []
    done: list[Reading] = []
    now = 0.0
    while running or any(waiting):
        for rank, queue in enumerate(waiting):
            while queue and starts[rank] <= now and sum(one.rank == rank for one in running) < in_flight:
                copy = queue.pop()
                running.append(_Running(rank, copy.source, now, copy.nbytes))
        rates = [most * share for share in max_min([(one.rank, one.source) for one in running])]
        moments = [now + one.left / rate for one, rate in zip(running, rates, strict=True)]
        moments += [start for start, queue in zip(starts, waiting, strict=True) if queue and start > now]
        took, now = min(moments) - now, min(moments)
        for one, rate in zip(running, rates, strict=True):
            one.left -= rate * took
        done += [Reading(one.rank, one.source, one.start_us, now) for one in running if one.left <= ROUNDING]
        running = [one for one in running if one.left > ROUNDING]
    return tuple(done)


def planned(scenario: Scenario) -> list[list[Copy]]:
    """The copies of one pull of every rank, in the order in which the scenario's plan issues them."""
    return [[Copy(one.peer, one.nbytes) for one in pull_plan(scenario, rank).slices] for rank in range(scenario.ranks)]


def slowdowns(readings: Sequence[Reading], copies: Sequence[Sequence[Copy]], gbps: float) -> list[float]:
    """How many times as long as alone each rank's copies took, from its first to the end of its last."""
    found = []
    for rank, of_rank in enumerate(copies):
        mine = [one for one in readings if one.rank == rank]
        took_us = max(one.end_us for one in mine) - min(one.start_us for one in mine)
        found.append(took_us * gbps * 1e3 / sum(copy.nbytes for copy in of_rank))
    return found


def slowdown_apart(scenario: Scenario, in_flight: int = 1, draws: int = 4) -> float:
    """The mean of `slowdowns` over all ranks when they start at random moments within the time of one pull.

    Every rank makes two pulls, one after the other, so that it does not end alone.
    """
    gbps = scenario.link_gbps or load_hardware(scenario.hardware).link_gbps.value
    copies = [2 * of_rank for of_rank in planned(scenario)]
    alone_us = max(sum(copy.nbytes for copy in of_rank) for of_rank in copies) / 2 / gbps / 1e3
    found = []
    for number in range(draws):
        draw = random.Random(f"apart {number}")
        starts = [draw.uniform(0.0, alone_us) for _ in copies]
        found += slowdowns(read_all(copies, gbps, starts, in_flight), copies, gbps)
    return sum(found) / len(found)
