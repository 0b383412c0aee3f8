"""The output of a grouped GEMM as a picture: which elements are right, wrong, or were never written."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise

from dwdp_lab.teach.gemm_cases import BLOCK, RIGHT, UNWRITTEN, WRONG, GemmCase
from dwdp_lab.timeline.palette import GREEN, INK, VERMILLION
from dwdp_lab.view.charts.svg_parts import GRID, MUTED, document, path, rectangle, text
from dwdp_lab.view.picture import Picture

CELL, LEFT, TOP = 9.0, 150.0, 58.0
COLOURS = {RIGHT: GREEN, WRONG: VERMILLION, UNWRITTEN: GRID}


def output_picture(case: GemmCase, cells: Sequence[str]) -> Picture:
    """Rows from top to bottom, one expert's after another; lines are where tiles and experts end."""
    parts = [text(16, 26, f"out: {case}", 13, weight=600)]
    key = "green: right; orange: wrong; grey: never written; thin dark lines: tiles, thick ones: experts"
    parts.append(text(16, 44, key, 11, MUTED))
    for number, row in enumerate(cells):
        column = 0
        for mark, run in groupby(row):
            length = len(list(run))
            x, y = LEFT + column * CELL, TOP + number * CELL
            parts.append(rectangle(x, y, length * CELL, CELL - 1, COLOURS[mark]))
            column += length
    right, bottom = LEFT + case.n * CELL, TOP + len(cells) * CELL
    for _, first in case.tiles:
        parts.append(path([(LEFT, TOP + first * CELL - 0.5), (right, TOP + first * CELL - 0.5)], INK, 1.0))
    for edge in range(BLOCK, case.n, BLOCK):
        parts.append(path([(LEFT + edge * CELL, TOP), (LEFT + edge * CELL, bottom)], INK, 1.0))
    for expert, (first, end) in enumerate(pairwise(case.offsets)):
        if first < end:
            y = TOP + (first + end) / 2 * CELL + 4
            parts.append(text(LEFT - 8, y, f"expert {expert}", 10, anchor="end"))
            parts.append(path([(LEFT - 6, TOP + end * CELL - 0.5), (right, TOP + end * CELL - 0.5)], INK, 2.0))
    empty = [str(expert) for expert, count in enumerate(case.counts) if not count]
    if empty:
        parts.append(text(16, bottom + 20, f"no rows: expert {', '.join(empty)}", 11, MUTED))
    return Picture(document(720, bottom + 34, "The output of your kernel", str(case), parts))
