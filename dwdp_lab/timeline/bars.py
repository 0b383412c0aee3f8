"""Spans of one row as bars in pixels, few enough to draw however many spans there are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple


class Bar(NamedTuple):
    """Pixels [left, right) of a row and the kind shown there."""

    kind: str
    left: float
    right: float


def drawn(bars: Iterable[Bar], resolution: float) -> list[Bar]:
    """The bars as they are, except that crowds of bars narrower than `resolution` pixels become cells.

    Each kind, and the empty space, keeps its share of a crowd's pixels: a cell shows what is most overdue,
    and what it does not show is carried on to the next (error diffusion). So a pattern too fine to draw does
    not look like its commonest kind alone.
    """
    result: list[Bar] = []
    crowd: list[Bar] = []
    for bar in sorted(bars, key=lambda bar: bar.left):
        narrow = bar.right - bar.left < resolution
        if crowd and not (narrow and bar.left - crowd[-1].right < resolution):
            result += _cells(crowd, resolution)
            crowd = []
        (crowd if narrow else result).append(bar)
    return result + _cells(crowd, resolution)


def _cells(crowd: list[Bar], resolution: float) -> list[Bar]:
    if len(crowd) < 3:
        return crowd
    left, right = crowd[0].left, max(bar.right for bar in crowd)
    count = max(1, round((right - left) / resolution))
    edges = [left + (right - left) * i / count for i in range(count + 1)]
    overdue: dict[str, float] = {"": 0.0}  # the empty kind is empty space
    shown: list[Bar] = []
    for (start, end), amounts in zip(pairwise(edges), _amounts(crowd, edges), strict=True):
        for kind, pixels in amounts.items():
            overdue[kind] = overdue.get(kind, 0.0) + pixels
        overdue[""] += end - start - math.fsum(amounts.values())
        kind = max(overdue, key=lambda kind: overdue[kind])
        overdue[kind] -= end - start
        if shown and shown[-1].kind == kind and shown[-1].right == start:
            shown[-1] = shown[-1]._replace(right=end)
        elif kind:
            shown.append(Bar(kind, start, end))
    return shown


def _amounts(crowd: list[Bar], edges: list[float]) -> Iterator[dict[str, float]]:
    """For each cell, how many of its pixels each kind covers."""
    first = 0
    for start, end in pairwise(edges):
        amounts: dict[str, float] = {}
        while first < len(crowd) and crowd[first].right <= start:
            first += 1
        place = first
        while place < len(crowd) and crowd[place].left < end:
            kind, bar_left, bar_right = crowd[place]
            covered = min(bar_right, end) - max(bar_left, start)
            amounts[kind] = amounts.get(kind, 0.0) + max(0.0, covered)
            place += 1
        yield amounts
