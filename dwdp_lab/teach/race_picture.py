"""A race as a picture: a timing that the events allow, in which two operations meet on one slot."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from dwdp_lab.program.operation import LANES, Op
from dwdp_lab.teach.happens_before import bad_timing, predecessors
from dwdp_lab.timeline.palette import EXPOSED, INK, style
from dwdp_lab.view.picture import Picture

WIDTH, LEFT, RIGHT, ROW, TOP = 960, 70, 20, 44, 62
AROUND = 9  # operations shown before the first of the two, and after the second


def race_picture(ops: Sequence[Op], first: int, later: int, title: str) -> Picture:
    """The operations around `first` and `later` (indices in issue order), drawn as early as the events allow.

    The first of the two is slow and the other a little late: a race is a timing that *can* happen.
    Arrows are events, from the operation that signals to the one that waits.
    """
    times = bad_timing(ops, first, later)
    from_, to = max(0, first - AROUND), min(len(ops), later + AROUND)
    shown = range(from_, to)
    begin, end = min(times[i][0] for i in shown), max(times[i][1] for i in shown)
    scale = (WIDTH - LEFT - RIGHT) / (end - begin)
    lanes = [lane for lane in LANES if any(ops[i].lane == lane for i in shown)]
    middle = {lane: TOP + ROW * (2 * place) + ROW / 2 for place, lane in enumerate(lanes)}

    def x(time: float) -> float:
        return LEFT + (time - begin) * scale

    height = TOP + ROW * (2 * len(lanes) - 1) + 34
    parts = [_text(18, 26, title, 14, weight=600)]
    note = "A timing that the events (arrows) allow: one of the two is slow, and nothing makes the other wait. "
    note += "L2 S0: layer 2 of step 0."
    parts.append(_text(18, 45, note, 11, "#52606D"))
    low, high = max(times[first][0], times[later][0]), min(times[first][1], times[later][1])
    if high > low:
        parts.append(
            f'<rect x="{x(low):.1f}" y="{TOP - 8}" width="{(high - low) * scale:.1f}" height="{height - TOP - 8:.0f}" '
            f'fill="{EXPOSED.colour}" opacity=".15"/>'
        )
    parts += [_text(18, y + 4, lane, 11, "#52606D") for lane, y in middle.items()]
    for i in shown:
        parts += _box(ops[i], x(times[i][0]), x(times[i][1]), middle[ops[i].lane], i in (first, later))
    for i in shown:
        for source, event in predecessors(ops)[i]:
            if event and source in shown:
                parts.append(_arrow(x(times[source][1]), middle[ops[source].lane], x(times[i][0]), middle[ops[i].lane]))
    return Picture(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
        f'height="{height:.0f}" style="max-width:100%;height:auto" role="img" '
        'font-family="Inter, Segoe UI, Helvetica Neue, Helvetica, Arial, Liberation Sans, sans-serif">\n'
        f"<title>{escape(title)}</title>\n"
        '<defs><marker id="race-head" viewBox="0 0 6 6" refX="6" refY="3" markerWidth="7" markerHeight="7" '
        f'orient="auto"><path d="M0 0L6 3L0 6z" fill="{INK}"/></marker></defs>\n'
        f'<rect width="{WIDTH}" height="{height:.0f}" rx="8" fill="#fff" stroke="#D9DEE4"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _box(op: Op, left: float, right: float, middle: float, red: bool) -> list[str]:
    edge = f'stroke="{EXPOSED.colour}" stroke-width="3"' if red else 'stroke="#fff" stroke-width="1"'
    rect = (
        f'<rect x="{left:.1f}" y="{middle - ROW / 2:.1f}" width="{right - left:.1f}" height="{ROW}" rx="3" '
        f'fill="{style(op.kind).colour}" fill-opacity=".75" {edge}/>'
    )
    slot = f"slot {op.slot}" if op.slot is not None else ""
    lines = ["attn" if op.kind == "attention" and right - left < 48 else op.kind, f"L{op.layer} S{op.step}", slot]
    centre = (left + right) / 2
    words = [_text(centre, middle - 8 + 12 * n, line, 9.5, anchor="middle") for n, line in enumerate(lines) if line]
    return [rect, *words]


def _arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    down = ROW / 2 if y2 > y1 else -ROW / 2
    if y1 == y2:
        return ""
    return (
        f'<path d="M{x1:.1f} {y1 + down:.1f}C{x1:.1f} {(y1 + y2) / 2:.1f} {x2:.1f} {(y1 + y2) / 2:.1f} '
        f'{x2 + 2:.1f} {y2 - down:.1f}" fill="none" stroke="{INK}" stroke-width="1.1" marker-end="url(#race-head)"/>'
    )


def _text(x: float, y: float, words: str, size: float, colour: str = INK, weight: int = 400, anchor: str = "") -> str:
    more = (f' font-weight="{weight}"' if weight != 400 else "") + (f' text-anchor="{anchor}"' if anchor else "")
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}"{more}>{escape(words)}</text>'
