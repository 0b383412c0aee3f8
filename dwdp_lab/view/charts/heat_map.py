"""A table of numbers as colours: above one in blue, below one in orange, which every eye can tell apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dwdp_lab.timeline.palette import INK
from dwdp_lab.view.charts.svg_parts import MUTED, document, heading, lines, rectangle, text

if TYPE_CHECKING:
    import plotly.graph_objects as go

BELOW, EVEN, ABOVE = (213, 94, 0), (247, 247, 247), (0, 114, 178)
FULL = math.log(1.6)
"""A ratio of 1.6 (or 1 / 1.6) has the full colour."""


@dataclass(frozen=True)
class HeatMap:
    """`values[row][column]` are ratios; rows from bottom to top. Titles of axes carry their unit."""

    title: str
    x_title: str
    y_title: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    words: str = ""
    notes: tuple[str, ...] = ()

    def svg(self, width: int = 720) -> str:
        """The map as an SVG picture of this width in pixels."""
        parts, more = heading(16, 26, self.title, width - 32)
        left, top, height = 70.0, 44.0 + more, 34.0
        cell = (width - left - 26) / len(self.columns)
        bottom = top + height * len(self.rows)
        for row, values in enumerate(self.values):
            y = bottom - height * (row + 1)
            parts.append(text(left - 8, y + height / 2 + 4, self.rows[row], 10.5, MUTED, anchor="end"))
            for column, value in enumerate(values):
                x = left + cell * column
                hint = f"{self.columns[column]}, {self.rows[row]}: {value:.3f}"
                ground = colour(value)
                parts.append(rectangle(x, y, cell - 1.5, height - 1.5, ground, hint))
                ink = readable_on(ground)
                parts.append(text(x + cell / 2, y + height / 2 + 4, f"{value:.2f}", 11.5, ink, anchor="middle"))
        for column, name in enumerate(self.columns):
            parts.append(text(left + cell * (column + 0.5), bottom + 15, name, 10.5, MUTED, anchor="middle"))
        parts.append(text((left + width) / 2, bottom + 35, self.x_title, 11.5, anchor="middle"))
        parts.append(text(18, (top + bottom) / 2, self.y_title, 11.5, anchor="middle", turned=True))
        y = bottom + 60
        for words, size in ((self.words, 12.0), (" · ".join(self.notes), 10.5)):
            if words:
                written, y = lines(16, y, words, width - 32, size)
                parts += written
                y += 3
        return document(width, y + 2, self.title, self.words, parts)

    def figure(self) -> go.Figure:
        """The map as a plotly figure."""
        import plotly.graph_objects as go

        scale = [(0.0, colour(1 / 1.6)), (0.5, colour(1.0)), (1.0, colour(1.6))]
        heat = go.Heatmap(
            x=self.columns,
            y=self.rows,
            z=[[math.log(value) for value in row] for row in self.values],
            text=[[f"{value:.2f}" for value in row] for row in self.values],
            texttemplate="%{text}",
            hovertemplate="%{x}, %{y}: %{text}<extra></extra>",
            colorscale=scale,
            zmin=-FULL,
            zmax=FULL,
            showscale=False,
        )
        figure = go.Figure(heat)
        figure.update_layout(title={"text": self.title, "subtitle": {"text": self.words}}, plot_bgcolor="white")
        figure.update_xaxes(title=self.x_title, type="category")
        figure.update_yaxes(title=self.y_title, type="category")
        return figure

    def _repr_svg_(self) -> str:
        return self.svg()

    def __repr__(self) -> str:
        return f"HeatMap({self.title!r}: {self.words})"


def colour(ratio: float) -> str:
    """White for 1, and the same strength for a ratio and for its reciprocal."""
    share = max(-1.0, min(1.0, math.log(ratio) / FULL))
    end = ABOVE if share > 0 else BELOW
    mixed = [round(even + (far - even) * abs(share)) for even, far in zip(EVEN, end, strict=True)]
    return "#" + "".join(f"{part:02X}" for part in mixed)


def contrast(one: str, other: str) -> float:
    """Contrast of two colours `#RRGGBB`, 1 to 21 (WCAG 2.2, "contrast ratio")."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def readable_on(ground: str) -> str:
    """The colour of small text: the usual ink where it stands out by the 4.5 of WCAG 2.2 (1.4.3), else what does."""
    return max((INK, "#FFFFFF", "#000000"), key=lambda ink: min(4.5, contrast(ink, ground)))


def _luminance(shade: str) -> float:
    parts = [int(shade[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
