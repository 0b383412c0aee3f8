"""A chart as plain data: shown as SVG in a notebook (also on GitHub), and as a plotly figure when asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dwdp_lab.view.charts.chart_data import STRATEGY_COLOURS, Bars, ChartData, Curve
from dwdp_lab.view.charts.chart_svg import chart_svg

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["STRATEGY_COLOURS", "Bars", "Chart", "Curve"]


@dataclass(frozen=True)
class Chart(ChartData):
    """A chart that shows itself."""

    def svg(self, width: int = 720) -> str:
        """The chart as an SVG picture of this width in pixels."""
        return chart_svg(self, width)

    def figure(self) -> go.Figure:
        """The chart as a plotly figure, to zoom and hover."""
        # plotly takes half a second to import
        from dwdp_lab.view.charts.chart_figure import chart_figure

        return chart_figure(self)

    def _repr_svg_(self) -> str:
        return self.svg()

    def __repr__(self) -> str:
        return f"Chart({self.title!r}: {self.words})"
