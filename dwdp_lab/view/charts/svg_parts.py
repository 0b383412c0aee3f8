"""The few SVG elements that charts are made of."""

from __future__ import annotations

import textwrap
import zlib
from collections.abc import Iterable
from xml.sax.saxutils import escape

from dwdp_lab.timeline.palette import INK

MUTED, GRID = "#52606D", "#D9DEE4"


def number(value: float) -> str:
    """A coordinate with at most two decimals and nothing superfluous."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def text(
    x: float,
    y: float,
    words: str,
    size: float = 11,
    colour: str = INK,
    anchor: str = "start",
    weight: int = 400,
    turned: bool = False,
) -> str:
    """A line of text; `turned` reads upwards."""
    more = f' text-anchor="{anchor}"' if anchor != "start" else ""
    more += f' font-weight="{weight}"' if weight != 400 else ""
    more += f' transform="rotate(-90 {number(x)} {number(y)})"' if turned else ""
    place = f'x="{number(x)}" y="{number(y)}" font-size="{number(size)}" fill="{colour}"'
    return f"<text {place}{more}>{escape(words)}</text>"


def lines(
    x: float, y: float, words: str, width: float, size: float = 11, colour: str = MUTED
) -> tuple[list[str], float]:
    """Text broken to a width in pixels, and where the line after it would stand."""
    pieces = textwrap.wrap(words, max(20, int(width / (size * 0.52))))
    return [text(x, y + row * size * 1.35, piece, size, colour) for row, piece in enumerate(pieces)], y + (
        len(pieces) * size * 1.35
    )


def heading(x: float, y: float, words: str, width: float, size: float = 15) -> tuple[list[str], float]:
    """A title on as many lines as it needs, and by how much more than one line that is high."""
    pieces = textwrap.wrap(words, max(20, int(width / (size * 0.54)))) or [""]
    step = size * 1.3
    parts = [text(x, y + row * step, piece, size, weight=600) for row, piece in enumerate(pieces)]
    return parts, (len(pieces) - 1) * step


def rectangle(x: float, y: float, width: float, height: float, colour: str, hint: str = "") -> str:
    """A filled rectangle that says `hint` when pointed at."""
    shape = f'x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}" fill="{colour}"'
    return f"<rect {shape}><title>{escape(hint)}</title></rect>" if hint else f"<rect {shape}/>"


def path(points: Iterable[tuple[float, float]], colour: str, width: float = 1.0, dashed: bool = False) -> str:
    """A line through points."""
    steps = "L".join(f"{number(x)} {number(y)}" for x, y in points)
    dash = ' stroke-dasharray="6 4"' if dashed else ""
    return f'<path d="M{steps}" fill="none" stroke="{colour}" stroke-width="{number(width)}"{dash}/>'


def dot(x: float, y: float, colour: str, hint: str, radius: float = 3.2) -> str:
    """A point that says `hint` when pointed at."""
    place = f'cx="{number(x)}" cy="{number(y)}" r="{number(radius)}" fill="{colour}" stroke="#fff" stroke-width=".8"'
    return f"<circle {place}><title>{escape(hint)}</title></circle>"


def document(width: float, height: float, title: str, description: str, parts: Iterable[str]) -> str:
    """The picture, with a white card behind it: the page may be dark."""
    body = "\n".join(parts)
    mark = f"{zlib.crc32((title + body).encode()):08x}"  # several pictures may share a page, and with it the ids
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {number(width)} {number(height)}" '
        f'width="{number(width)}" height="{number(height)}" role="img" aria-labelledby="t{mark} d{mark}" '
        'font-family="Inter, Segoe UI, Helvetica Neue, Helvetica, Arial, Liberation Sans, sans-serif">\n'
        f'<title id="t{mark}">{escape(title)}</title>\n<desc id="d{mark}">{escape(description)}</desc>\n'
        f'<rect x=".5" y=".5" width="{number(width - 1)}" height="{number(height - 1)}" rx="8" fill="#fff" '
        f'stroke="{GRID}"/>\n{body}\n</svg>\n'
    )
