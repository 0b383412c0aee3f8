"""Pulls copy by copy as a picture: from whom each rank reads, and how many copies each source serves."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from xml.sax.saxutils import escape

from dwdp_lab.teach.reading import Reading
from dwdp_lab.timeline.palette import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, SKY, VERMILLION, YELLOW
from dwdp_lab.view.charts.svg_parts import GRID, MUTED, document, lines, path, rectangle, text
from dwdp_lab.view.picture import Picture

DARK = (BLUE, GREEN, VERMILLION)
COLOURS = (BLUE, ORANGE, GREEN, VERMILLION, SKY, PURPLE, YELLOW, GREY)
"""Of sources 0, 1, 2, ..."""

WIDTH, LEFT, RIGHT, TOP = 960, 78, 24, 66
COPY_HEIGHT, LEVEL_HEIGHT, GAP = 15, 7, 8


def reading_picture(readings: Sequence[Reading], title: str, words: str = "") -> Picture:
    """A row per rank with its copies, coloured by source, and a row per source with the number of copies it serves.

    Needs at least one reading. Ranks are numbered from 0; the time axis is in microseconds.
    """
    ranks = 1 + max(max(one.rank, one.source) for one in readings)
    end_us = max(one.end_us for one in readings)
    scale = (WIDTH - LEFT - RIGHT) / end_us
    parts = [text(18, 26, title, 14, weight=600)]
    key = "simulated, copy by copy; above: what each rank reads, in the colour of its source; below: how many copies a "
    key += "source serves at once"
    parts.append(text(18, 45, key, 11, MUTED))
    y = float(TOP)
    for rank in range(ranks):
        rows = _rows([one for one in readings if one.rank == rank])
        parts.append(text(18, y + 11, f"rank {rank}", 11.5, weight=600))
        for row in rows or [[]]:
            parts += [_bar(one, y, scale) for one in row]
            parts += [_name(one, y, scale) for one in row if (one.end_us - one.start_us) * scale > 14]
            y += COPY_HEIGHT + 1
        y += GAP
    most = max(level for source in range(ranks) for _, level in levels(readings, source))
    y += 6
    for source in range(ranks):
        bottom = y + LEVEL_HEIGHT * most
        parts.append(text(18, bottom - 1, f"source {source}", 11.5, weight=600))
        parts.append(path([(LEFT, bottom), (WIDTH - RIGHT, bottom)], GRID))
        parts += _levels(levels(readings, source), bottom, scale, COLOURS[source % len(COLOURS)])
        y = bottom + GAP
    parts += [text(LEFT, y + 8, "0", 10.5, MUTED), text(WIDTH - RIGHT, y + 8, f"{end_us:,.0f} µs", 10.5, MUTED, "end")]
    y += 28
    if words:
        written, y = lines(18, y, words, WIDTH - 36, 12)
        parts += written
    return Picture(document(WIDTH, y + 4, escape(title), words, parts))


def levels(readings: Sequence[Reading], source: int) -> list[tuple[float, int]]:
    """(time, copies that the source serves from then on), in order of time, from 0 on."""
    changes: dict[float, int] = {0.0: 0}
    for one in readings:
        if one.source == source:
            changes[one.start_us] = changes.get(one.start_us, 0) + 1
            changes[one.end_us] = changes.get(one.end_us, 0) - 1
    level = 0
    found: list[tuple[float, int]] = []
    for time in sorted(changes):
        level += changes[time]
        if not found or level != found[-1][1]:
            found.append((time, level))
    return found


def _rows(readings: Sequence[Reading]) -> list[list[Reading]]:
    """As many rows as copies are in flight at once; none overlap in a row."""
    rows: list[list[Reading]] = []
    for one in sorted(readings, key=lambda reading: reading.start_us):
        free = next((row for row in rows if row[-1].end_us <= one.start_us + 1e-6), None)
        if free is None:
            rows.append([one])
        else:
            free.append(one)
    return rows


def _bar(one: Reading, y: float, scale: float) -> str:
    left, width = LEFT + one.start_us * scale, (one.end_us - one.start_us) * scale
    return rectangle(left, y, max(0.5, width - 0.8), COPY_HEIGHT, COLOURS[one.source % len(COLOURS)])


def _name(one: Reading, y: float, scale: float) -> str:
    colour = "#fff" if COLOURS[one.source % len(COLOURS)] in DARK else INK
    return text(LEFT + (one.start_us + one.end_us) / 2 * scale, y + 11.5, str(one.source), 10, colour, "middle")


def _levels(steps: Sequence[tuple[float, int]], bottom: float, scale: float, colour: str) -> list[str]:
    parts = []
    for (start, level), (end, _) in pairwise(steps):
        left, width, height = LEFT + start * scale, (end - start) * scale, LEVEL_HEIGHT * level
        if not level:
            continue
        parts.append(rectangle(left, bottom - height, width, height, colour))
        if width > 14 and level > 1:
            ink = "#fff" if colour in DARK else INK
            parts.append(text(left + width / 2, bottom - height + 10, str(level), 10, ink, "middle"))
    return parts
