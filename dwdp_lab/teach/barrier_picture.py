"""A step with a barrier after each layer, and where somebody says that it ends."""

from __future__ import annotations

from collections.abc import Sequence

from dwdp_lab.timeline.palette import BLUE, EXPOSED, INK
from dwdp_lab.view.picture import Picture

WIDTH, LEFT, RIGHT, TOP, ROW = 960, 74, 60, 64, 38


def barrier_picture(work_ms: Sequence[Sequence[float]], said_ms: float | None) -> Picture:
    """`work_ms[layer][rank]` of computation, then all ranks meet; the next layer begins when the last has come.

    `said_ms` is drawn as a line across all ranks (None: no line).
    """
    ranks = len(work_ms[0])
    meetings = [0.0]
    for works in work_ms:
        meetings.append(meetings[-1] + max(works))
    scale = (WIDTH - LEFT - RIGHT) / max(meetings[-1], said_ms or 0.0)
    bottom = TOP + ranks * ROW
    parts = [_text(18, 26, f"work_ms = {[list(works) for works in work_ms]}", 14, weight=600)]
    parts.append(_text(18, 45, "blue: a rank computes; white: it waits; black lines: all ranks meet", 11))
    for layer, works in enumerate(work_ms):
        for rank, work in enumerate(works):
            x, y = LEFT + meetings[layer] * scale, TOP + rank * ROW + 4
            size = f'width="{work * scale:.1f}" height="{ROW - 8}"'
            parts.append(f'<rect x="{x:.1f}" y="{y}" {size} rx="3" fill="{BLUE}"/>')
            parts.append(_text(x + work * scale / 2, y + 19, f"{work:g} ms", 11, "#fff", anchor="middle"))
    parts += [_text(18, TOP + rank * ROW + 23, f"rank {rank}", 11.5, weight=600) for rank in range(ranks)]
    for time in meetings[1:]:
        parts.append(_line(LEFT + time * scale, TOP - 4, bottom + 4, INK, 2.0))
        parts.append(_text(LEFT + time * scale, bottom + 18, f"{time:g}", 11, anchor="middle"))
    if said_ms is not None:
        parts.append(
            _line(LEFT + said_ms * scale, TOP - 10, bottom + 26, EXPOSED.colour, 2.5, 'stroke-dasharray="6 4"')
        )
        said = f"you say {said_ms:g} ms"
        parts.append(_text(LEFT + said_ms * scale, bottom + 38, said, 11, EXPOSED.colour, anchor="middle"))
    height = bottom + 50
    return Picture(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'style="max-width:100%;height:auto" role="img" '
        'font-family="Inter, Segoe UI, Helvetica Neue, Helvetica, Arial, Liberation Sans, sans-serif">\n'
        "<title>Ranks that meet after each layer</title>\n"
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#fff" stroke="#D9DEE4"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _line(x: float, top: float, bottom: float, colour: str, width: float, more: str = "") -> str:
    return f'<path d="M{x:.1f} {top}V{bottom}" stroke="{colour}" stroke-width="{width}" {more}/>'


def _text(x: float, y: float, words: str, size: float, colour: str = INK, weight: int = 400, anchor: str = "") -> str:
    more = (f' font-weight="{weight}"' if weight != 400 else "") + (f' text-anchor="{anchor}"' if anchor else "")
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}"{more}>{words}</text>'
