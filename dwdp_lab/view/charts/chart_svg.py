"""A chart as one static SVG picture, drawn without a browser or a library."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dwdp_lab.timeline.words import figures
from dwdp_lab.view.charts.axis import Axis, axis
from dwdp_lab.view.charts.chart_data import Bars, ChartData, Curve
from dwdp_lab.view.charts.svg_parts import GRID, MUTED, document, dot, heading, lines, path, rectangle, text

MARGIN, LEFT, PLOT_HEIGHT = 16, 70, 270


def chart_svg(chart: ChartData, width: int = 720) -> str:
    """Title, plot, legend, what it shows in words, and what it is worth."""
    parts, more = heading(MARGIN, 26, chart.title, width - 2 * MARGIN)
    top, bottom, right = 44.0 + more, 44.0 + more + PLOT_HEIGHT, float(width - MARGIN - 10)
    horizontal, vertical = _axes(chart, LEFT, right, bottom, top)
    parts += _frame(chart, horizontal, vertical)
    for group, bars in enumerate(chart.bars):
        parts += _bars(chart, bars, group, horizontal, vertical)
    for name, value in chart.limits:
        y = vertical.place(value)
        parts += [path([(LEFT, y), (right, y)], MUTED, 1.2, dashed=True)]
        parts += [text(right, y - 4, name, 10.5, MUTED, anchor="end")]
    for curve in chart.curves:
        parts += _curve(curve, horizontal, vertical)
    parts += _labels(chart, horizontal, vertical)
    legend, y = _legend(chart, bottom + 58, width)
    parts += legend
    for words, size in ((chart.words, 12.0), (" · ".join(chart.notes), 10.5)):
        if words:
            written, y = lines(MARGIN, y, words, width - 2 * MARGIN, size)
            parts += written
            y += 3
    return document(width, y + 2, chart.title, chart.words, parts)


def _axes(chart: ChartData, left: float, right: float, bottom: float, top: float) -> tuple[Axis, Axis]:
    heights = [y for curve in chart.curves for y in curve.y] + [value for _, value in chart.limits]
    if chart.stacked:
        heights += [sum(column) for column in zip(*[bars.values for bars in chart.bars], strict=True)]
    else:
        heights += [value for bars in chart.bars for value in bars.values]
    vertical = axis(heights, bottom, top, chart.log_y)
    if chart.categories:
        return Axis(-0.5, len(chart.categories) - 0.5, left, right), vertical
    places = [x for curve in chart.curves for x in curve.x]
    return axis(places, left, right, chart.log_x, from_zero=False), vertical


def _frame(chart: ChartData, horizontal: Axis, vertical: Axis) -> list[str]:
    parts = []
    for value, written in vertical.ticks():
        y = vertical.place(value)
        parts += [path([(horizontal.start, y), (horizontal.end, y)], GRID)]
        parts += [text(horizontal.start - 7, y + 4, written, 10.5, MUTED, anchor="end")]
    if chart.categories:
        ticks = [(float(number), name) for number, name in enumerate(chart.categories)]
        ticks = ticks[:: _every(chart.categories, horizontal.place(1) - horizontal.place(0))]
    else:
        ticks = horizontal.ticks()
        for value, _ in ticks:
            x = horizontal.place(value)
            parts += [path([(x, vertical.start), (x, vertical.end)], GRID, 0.7)]
    for value, written in ticks:
        parts += [text(horizontal.place(value), vertical.start + 16, written, 10.5, MUTED, anchor="middle")]
    parts += [path([(horizontal.start, vertical.start), (horizontal.end, vertical.start)], MUTED)]
    middle = (horizontal.start + horizontal.end) / 2
    parts += [text(middle, vertical.start + 35, chart.x_title, 11.5, anchor="middle")]
    return [*parts, text(18, (vertical.start + vertical.end) / 2, chart.y_title, 11.5, anchor="middle", turned=True)]


def _every(categories: Sequence[str], room: float) -> int:
    """1, or with more numbers than have room below the axis, every how many of them is written. Names all are."""
    widest = 6.0 * max(map(len, categories)) + 6.0
    return math.ceil(widest / room) if all(name.isdigit() for name in categories) else 1


def _bars(chart: ChartData, bars: Bars, group: int, horizontal: Axis, vertical: Axis) -> list[str]:
    groups = 1 if chart.stacked else len(chart.bars)
    width = min(90.0, (horizontal.place(1) - horizontal.place(0)) * 0.72) / groups
    parts = []
    for number, value in enumerate(bars.values):
        below = sum(other.values[number] for other in chart.bars[:group]) if chart.stacked else 0.0
        left = horizontal.place(number) + width * ((0 if chart.stacked else group) - groups / 2)
        top, bottom = sorted((vertical.place(below + value), vertical.place(below)))  # below zero it hangs down
        hint = f"{chart.categories[number]}, {bars.label}: {figures(value)}"
        if bottom > top:
            parts.append(rectangle(left, top, max(1.0, width - 1.5), bottom - top, bars.colour, hint))
    return parts


def _curve(curve: Curve, horizontal: Axis, vertical: Axis) -> list[str]:
    known = [(x, y) for x, y in zip(curve.x, curve.y, strict=True) if math.isfinite(x) and math.isfinite(y)]
    places = [(horizontal.place(x), vertical.place(y)) for x, y in known]
    parts = [path(places, curve.colour, 2, curve.dashed)] if curve.line and len(places) > 1 else []
    for number, (x, y) in enumerate(places):
        if curve.points:
            hint = f"{curve.label}: {figures(known[number][0])}, {figures(known[number][1])}"
            parts.append(dot(x, y, curve.colour, hint, 3.2 if curve.line else 5))
    return parts


def _labels(chart: ChartData, horizontal: Axis, vertical: Axis) -> list[str]:
    """The words beside points, each below its point and clear of other points and words."""
    named = [
        (horizontal.place(x), vertical.place(y), label)
        for curve in chart.curves
        for x, y, label in zip(curve.x, curve.y, curve.labels, strict=False)
    ]
    parts: list[str] = []
    taken = [(x - 6, x + 6, y + 4) for x, y, _ in named]  # left, right and lower edge of points, then of words too
    for x, y, label in sorted(named):
        right, below = x + 6 + 5.5 * len(label), y + 20
        while any(x < end and start < right and abs(below - height) < 14 for start, end, height in taken):
            below += 17
        taken.append((x, right, below))
        parts += [path([(x, y + 6), (x, below - 10)], MUTED, 0.7), text(x + 3, below, label, 11)]
    return parts


def _legend(chart: ChartData, y: float, width: int) -> tuple[list[str], float]:
    """The names of what is drawn, and where the text after them stands."""
    entries: list[tuple[str, str, bool, bool]] = [(bars.label, bars.colour, False, False) for bars in chart.bars]
    entries += [(c.label, c.colour, c.line, c.dashed) for c in chart.curves if c.label and not c.labels]
    parts, x = [], float(MARGIN)
    for label, colour, line, dashed in entries:
        room = 36 + 6.0 * len(label)
        if x + room > width - MARGIN and x > MARGIN:
            x, y = float(MARGIN), y + 19
        mark = path([(x, y - 4), (x + 20, y - 4)], colour, 2.4, dashed) if line else rectangle(x, y - 9, 14, 11, colour)
        parts += [mark, text(x + (25 if line else 19), y, label, 11)]
        x += room + 10
    return parts, y + (24 if entries else 6)
