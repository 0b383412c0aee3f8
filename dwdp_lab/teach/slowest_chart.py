"""The slowest of N ranks over N: what somebody says, beside random numbers."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import cache

from dwdp_lab.timeline.palette import BLUE, ORANGE
from dwdp_lab.view.charts.chart import Chart, Curve

DRAWS = 2000
"""Batches drawn for each N: enough to see, not to settle 1 %."""


@cache
def drawn_factors(ranks: tuple[int, ...]) -> tuple[float, ...]:
    """e_N for each N as a mean of so many maxima of standard normal numbers; the same numbers each time."""
    draw = random.Random(1)
    return tuple(sum(max(draw.gauss(0, 1) for _ in range(n)) for _ in range(DRAWS)) / DRAWS for n in ranks)


def slowest_chart(said: Mapping[float, Sequence[float]], ranks: Sequence[int]) -> Chart:
    """`said[cv]` is E[max] / mean for each of `ranks`; dots are drawn with the same CVs."""
    x, factors = tuple(map(float, ranks)), drawn_factors(tuple(ranks))
    lines = [
        Curve("your answer" if not number else "", x, tuple(100 * (value - 1) for value in values), BLUE, points=False)
        for number, values in enumerate(said.values())
    ]
    dots = [
        Curve("random numbers" if not number else "", x, tuple(100 * cv * e for e in factors), ORANGE, line=False)
        for number, cv in enumerate(said)
    ]
    return Chart(
        title="How much later than the mean the slowest of N ranks is",
        x_title="ranks N",
        y_title="E[max] / mean - 1 (%)",
        curves=(*lines, *dots),
        log_x=True,
        words=f"From bottom to top: CV {', '.join(f'{cv:g}' for cv in said)}. Lines are your answer; each dot is the "
        f"mean of {DRAWS:,} random batches.",
        notes=("drawn at random",),
    )
