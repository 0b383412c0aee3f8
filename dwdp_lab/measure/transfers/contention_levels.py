"""From who read which source when: how many ranks read the same source at once, and how evenly they were served."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Reading(NamedTuple):
    """One rank read from one source from `start_us` to `end_us`, on a clock that all ranks share."""

    rank: int
    source: int
    start_us: float
    end_us: float


Window = tuple[float, float]
"""Start and end, in microseconds, of the time that counts."""


def level_shares(readings: Iterable[Reading], window: Window = (-math.inf, math.inf)) -> dict[int, float]:
    """Share of the ranks' reading time in which c ranks read the same source at once, c from 1 up.

    A rank counts itself: what it meets is the contention level C of arXiv 2604.01621, section 4.3.1, and this is its
    distribution over reading time. Two readings of one rank at one source count as one reader. Empty without readings.
    """
    level_us = _level_us(readings, window)
    total = sum(level_us.values())
    return {level: level_us[level] / total for level in sorted(level_us)} if total else {}


def mean_of(shares: dict[int, float]) -> float:
    """The mean level of a distribution; 0 for an empty one."""
    return sum(level * share for level, share in shares.items())


def distance(one: dict[int, float], other: dict[int, float]) -> float:
    """Total variation distance of two distributions: the share of time, 0 to 1, that would have to move."""
    return sum(abs(one.get(level, 0.0) - other.get(level, 0.0)) for level in {*one, *other}) / 2


def all_reading(readings: Sequence[Reading]) -> Window:
    """From the moment the last rank has begun to the moment the first one ends: no rank is idle in between.

    Empty (its end is not after its start) when a rank ended before another began.
    """
    begin: dict[int, float] = {}
    end: dict[int, float] = {}
    for rank, _, start_us, end_us in readings:
        begin[rank] = min(start_us, begin.get(rank, math.inf))
        end[rank] = max(end_us, end.get(rank, -math.inf))
    return (max(begin.values()), min(end.values())) if begin else (0.0, 0.0)


def _level_us(readings: Iterable[Reading], window: Window) -> dict[int, float]:
    first, last = window
    moments: dict[int, list[tuple[float, int, int]]] = defaultdict(list)  # per source: (when, +1 or -1, rank)
    for rank, source, start_us, end_us in readings:
        start_us, end_us = max(start_us, first), min(end_us, last)
        if start_us < end_us:
            moments[source] += [(start_us, 1, rank), (end_us, -1, rank)]
    level_us: dict[int, float] = defaultdict(float)
    for changes in moments.values():
        here: dict[int, int] = defaultdict(int)
        since = 0.0
        for when, change, rank in sorted(changes):
            level = len(here)
            if level:
                level_us[level] += (when - since) * level
            since = when
            here[rank] += change
            if not here[rank]:
                del here[rank]
    return {level: took for level, took in level_us.items() if took > 0}


def fairness(values: Sequence[float]) -> float:
    """Jain's index of what each reader gets: 1 when all get the same, 1 / n when one gets everything.

    (sum x)^2 / (n sum x^2), from Jain, Chiu and Hawe, A quantitative measure of fairness and discrimination for
    resource allocation in shared computer systems, DEC Research Report TR-301, 1984 (arXiv cs/9809099).

    >>> fairness([1.0, 1.0]), fairness([1.0, 0.0, 0.0, 0.0])
    (1.0, 0.25)

    Raises ValueError for no values, or when none is above zero.
    """
    largest = max(values, default=0.0)
    if largest <= 0 or min(values) < 0:
        raise ValueError(f"fairness needs amounts from zero up, one at least above it, not {list(values)}")
    parts = [value / largest for value in values]  # their squares neither overflow nor vanish
    return sum(parts) ** 2 / (len(parts) * sum(part * part for part in parts))
