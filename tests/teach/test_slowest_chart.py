"""The chart of the slowest of N: lines are what was said, dots what random numbers give."""

from __future__ import annotations

import pytest

from dwdp_lab.teach.barriers_answers import slowest_over_mean
from dwdp_lab.teach.slowest_chart import drawn_factors, slowest_chart

RANKS = (1, 2, 4, 16, 72)


def test_the_dots_lie_on_the_right_answer() -> None:
    for ranks, factor in zip(RANKS, drawn_factors(RANKS), strict=True):
        assert 1 + factor == pytest.approx(slowest_over_mean(1.0, ranks), abs=0.08)  # 3.5 deviations of 2,000 draws


def test_lines_are_what_was_said_right_or_wrong() -> None:
    said = {0.1: [1.0, 1.1, 1.2, 1.3, 1.4], 0.4: [2.0] * 5}
    chart = slowest_chart(said, RANKS)
    lines, dots = chart.curves[:2], chart.curves[2:]
    assert [pytest.approx(curve.y) for curve in lines] == [(0, 10, 20, 30, 40), (100,) * 5]
    assert dots[1].y == pytest.approx([4 * y for y in dots[0].y])
    assert {curve.x for curve in chart.curves} == {(1.0, 2.0, 4.0, 16.0, 72.0)}
