"""A chart as plain data: shown as SVG in a notebook (also on GitHub), and as a plotly figure when asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dwdp_lab.timeline.palette import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, VERMILLION

if TYPE_CHECKING:
    import plotly.graph_objects as go

STRATEGY_COLOURS = {
    "dwdp": BLUE,
    "dep": VERMILLION,
    "weight_gather": PURPLE,
    "replicated": GREY,
    "tensor": GREEN,
    "pipeline": ORANGE,
}


@dataclass(frozen=True)
class Curve:
    """A line through points; `line` off shows the points alone, `labels` write a word beside each."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    colour: str = INK
    dashed: bool = False
    line: bool = True
    points: bool = True
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bars:
    """One value per category."""

    label: str
    values: tuple[float, ...]
    colour: str


@dataclass(frozen=True)
class Chart:
    """Curves over numbers, or bars over categories. Titles of axes carry their unit.

    `words` say what the chart shows, `notes` what it is worth. `limits` are horizontal lines with their names.
    """

    title: str
    x_title: str
    y_title: str
    curves: tuple[Curve, ...] = ()
    bars: tuple[Bars, ...] = ()
    categories: tuple[str, ...] = ()
    stacked: bool = False
    limits: tuple[tuple[str, float], ...] = ()
    log_x: bool = False
    log_y: bool = False
    words: str = ""
    notes: tuple[str, ...] = field(default=())

    def svg(self, width: int = 720) -> str:
        """The chart as an SVG picture of this width in pixels."""
        from dwdp_lab.view.charts.chart_svg import chart_svg

        return chart_svg(self, width)

    def figure(self) -> go.Figure:
        """The chart as a plotly figure, to zoom and hover."""
        from dwdp_lab.view.charts.chart_figure import chart_figure

        return chart_figure(self)

    def _repr_svg_(self) -> str:
        return self.svg()

    def __repr__(self) -> str:
        return f"Chart({self.title!r}: {self.words})"
