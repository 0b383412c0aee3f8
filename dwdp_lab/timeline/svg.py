"""Timelines as one static SVG picture, drawn without a browser or a library."""

from __future__ import annotations

import math
import textwrap
import zlib
from collections.abc import Sequence
from itertools import groupby
from xml.sax.saxutils import escape

from dwdp_lab.timeline.bars import Bar, drawn
from dwdp_lab.timeline.metrics import metrics
from dwdp_lab.timeline.palette import EXPOSED, INK, KIND_STYLES, Style, heading, strategy_name, style
from dwdp_lab.timeline.rows import EXPOSED_KIND, Row, rows
from dwdp_lab.timeline.span import Timeline
from dwdp_lab.timeline.words import figures, summary

MUTED, GRID, BAND = "#52606D", "#D9DEE4", "#F1F4F7"
GUTTER, MARGIN = 136, 18  # pixels left of the time axis, and at the other edges
ROW_HEIGHT = {"compute": 17, "comm": 17, "copy": 11}
MOST_BYTES = 150_000


def timeline_svg(timelines: Timeline | Sequence[Timeline], width: int = 960, title: str = "") -> str:
    """One row per rank and lane, all timelines on one axis in milliseconds so that they can be compared.

    `width` in pixels, at least 480. Where bars are too many they are drawn coarser (see bars.py), so that the
    text stays under 150 kB. Raises ValueError for no timeline or too little width.
    """
    several = [timelines] if isinstance(timelines, Timeline) else list(timelines)
    if not several:
        raise ValueError("timelines = []: needs at least one timeline")
    if width < 480:
        raise ValueError(f"width = {width}: needs at least 480 pixels")
    text = ""
    for resolution in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0):
        text = _picture(several, width, title, resolution)
        if len(text.encode()) < MOST_BYTES:
            break
    return text


def _picture(timelines: list[Timeline], width: int, title: str, resolution: float) -> str:
    end_ms = max([span.end_us for timeline in timelines for span in timeline.spans], default=0.0) / 1e3 or 1.0
    scale = (width - GUTTER - MARGIN) / end_ms  # pixels per millisecond
    tick_ms = _tick_ms(end_ms)
    ticks = [count * tick_ms for count in range(math.floor(end_ms / tick_ms + 1e-9) + 1)]
    y = MARGIN + 4.0
    parts = []
    if title:
        parts.append(_text(MARGIN, y + 10, title, 15, weight=600))
        y += 30
    for timeline in timelines:
        panel, y = _panel(timeline, y, width, scale, ticks, resolution)
        parts += panel
    y -= 14
    for tick in ticks:
        parts.append(_text(GUTTER + tick * scale, y + 12, f"{tick:.6g}", 10.5, MUTED, anchor="middle"))
    parts.append(_text(GUTTER - 7, y + 12, "time (ms)", 10.5, MUTED, anchor="end"))
    legend, y = _legend(timelines, y + 40, width)
    parts += legend
    description = "; ".join(f"{heading(t)}: {summary(metrics(t))}" for t in timelines)
    name = title or "Timeline: " + ", ".join(strategy_name(t) for t in timelines)
    return _document(width, y + 6, name, description, parts)


def _document(width: int, height: float, title: str, description: str, parts: list[str]) -> str:
    body = "\n".join(parts)
    mark = f"{zlib.crc32(body.encode()):08x}"  # several pictures may share a page, and with it the ids
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_n(height)}" width="{width}" '
        f'height="{_n(height)}" style="max-width:100%;height:auto" role="img" aria-labelledby="t{mark} d{mark}" '
        'font-family="Inter, Segoe UI, Helvetica Neue, Helvetica, Arial, Liberation Sans, sans-serif">\n'
        f'<title id="t{mark}">{escape(title)}</title>\n<desc id="d{mark}">{escape(description)}</desc>\n'
        f'<defs><pattern id="w{mark}" width="5" height="5" patternUnits="userSpaceOnUse" '
        f'patternTransform="rotate(45)"><rect width="5" height="5" fill="#fff"/>'
        f'<rect width="1.6" height="5" fill="{INK}"/></pattern></defs>\n'
        # an own background: the page may be dark
        f'<rect x=".5" y=".5" width="{width - 1}" height="{_n(height - 1)}" rx="8" fill="#fff" '
        f'stroke="{GRID}"/>\n' + body.replace("url(#wait)", f"url(#w{mark})") + "\n</svg>\n"
    )


def _panel(
    timeline: Timeline, y: float, width: int, scale: float, ticks: list[float], resolution: float
) -> tuple[list[str], float]:
    """One timeline from `y` down, and where it ends."""
    parts = [_text(MARGIN, y + 10, heading(timeline), 13, weight=600)]
    y += 26
    for line in [summary(metrics(timeline)), *timeline.notes]:
        for piece in textwrap.wrap(line, int((width - 2 * MARGIN) / 5.6)):
            parts.append(_text(MARGIN, y, piece, 11, MUTED))
            y += 15
    y += 1
    top, bars = y - 2, []
    for rank, lanes in groupby(rows(timeline), key=lambda row: row.rank):
        start, rank_rows = y, list(lanes)
        height = sum(ROW_HEIGHT.get(row.lane, 17) + 2 for row in rank_rows)
        y += max(0, 27 - height) / 2  # the label has two lines
        for row in rank_rows:
            bars += _row(row, y, scale, resolution)
            y += ROW_HEIGHT.get(row.lane, 17) + 2
        y = start + max(27, height)
        middle = (start + y - 2) / 2
        bars.append(_text(MARGIN, middle - 2, f"rank {rank}", 11.5, weight=600))
        bars.append(_text(MARGIN, middle + 11, f"{timeline.tokens[rank]:,} tokens", 10, MUTED))
        bars += _end_mark(rank_rows[0].end_us / 1e3, middle - height / 2, middle + height / 2, width, scale)
        y += 7
    for tick in ticks:
        x = _n(GUTTER + tick * scale)
        parts.append(f'<path d="M{x} {_n(top)}V{_n(y - 3)}" stroke="{GRID}" stroke-width=".8"/>')
    return [*parts, *bars], y + 20


def _row(row: Row, y: float, scale: float, resolution: float) -> list[str]:
    height = ROW_HEIGHT.get(row.lane, 17)
    per_us = scale / 1e3
    bars = [Bar(span.kind, span.start_us * per_us, span.end_us * per_us) for span in row.spans]
    outlines: dict[str, list[str]] = {}
    previous = ("", 0.0)
    for kind, left, right in drawn(bars, resolution):
        start, end = round(left, 2), round(right, 2)
        if kind == previous[0] and left < previous[1] + 0.8 and end - start > 3:
            start = round(previous[1] + 0.8, 2)  # a hairline tells one pull from the next
        previous = (kind, right)
        if end > start:
            length = _n(end - start)
            outlines.setdefault(kind, []).append(f"M{_n(start)} 0h{length}v{height}h-{length}z")
    paths = [
        f'<path {_fill(EXPOSED if kind == EXPOSED_KIND else style(kind))} d="{"".join(outlines[kind])}"/>'
        for kind in sorted(outlines)
    ]
    band = f'<rect width="{_n(row.end_us * per_us)}" height="{height}" fill="{BAND}"/>'
    label = _text(GUTTER - 7, y + height / 2 + 3.5, row.lane, 10, MUTED, anchor="end")
    return [label, f'<g transform="translate({GUTTER} {_n(y)})">{band}{"".join(paths)}</g>']


def _fill(kind_style: Style) -> str:
    if kind_style.hatched:
        return f'fill="url(#wait)" stroke="{kind_style.colour}" stroke-width=".5"'
    return f'fill="{kind_style.colour}"'


def _end_mark(end_ms: float, top: float, bottom: float, width: int, scale: float) -> list[str]:
    """A line where the rank is done and, where there is room, when."""
    x = GUTTER + end_ms * scale
    line = f'<path d="M{_n(x)} {_n(top - 2)}V{_n(bottom + 2)}" stroke="{INK}" stroke-width="1.4"/>'
    if width - MARGIN - x < 92:
        return [line]
    return [line, _text(x + 6, top + 12, f"done at {figures(end_ms)} ms", 10, MUTED)]


def _tick_ms(end_ms: float) -> float:
    """The distance of ticks: a round number, at most eight on the axis."""
    power = 10.0 ** math.floor(math.log10(end_ms / 8))
    return power * next(factor for factor in (1, 2, 2.5, 5, 10, 20) if end_ms / (power * factor) <= 8)


def _legend(timelines: list[Timeline], y: float, width: int) -> tuple[list[str], float]:
    """The kinds that occur, those of one colour together, and where the legend ends."""
    kinds = {span.kind for t in timelines for row in rows(t) for span in row.spans}
    styles = [KIND_STYLES[kind] for kind in KIND_STYLES if kind in kinds]
    styles += [style(kind) for kind in sorted(kinds - KIND_STYLES.keys() - {EXPOSED_KIND})]
    if EXPOSED_KIND in kinds:
        styles.append(EXPOSED)
    labels: dict[str, list[str]] = {}
    for entry in styles:
        labels.setdefault(_fill(entry), []).append(entry.label)
    parts, x = [], float(MARGIN)
    for fill, names in labels.items():
        label = ", ".join(names)
        room = 30 + 5.6 * len(label)
        if x + room > width - MARGIN and x > MARGIN:
            x, y = float(MARGIN), y + 20
        parts.append(f'<rect x="{_n(x)}" y="{_n(y - 9)}" width="14" height="11" {fill}/>')
        parts.append(_text(x + 19, y, label, 11))
        x += room + 12
    return parts, y + 10


def _text(
    x: float, y: float, words: str, size: float, colour: str = INK, weight: int = 400, anchor: str = "start"
) -> str:
    more = f' font-weight="{weight}"' if weight != 400 else ""
    more += f' text-anchor="{anchor}"' if anchor != "start" else ""
    place = f'x="{_n(x)}" y="{_n(y)}" font-size="{_n(size)}" fill="{colour}"'
    return f"<text {place}{more}>{escape(words)}</text>"


def _n(value: float) -> str:
    """A coordinate with at most two decimals and nothing superfluous."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
