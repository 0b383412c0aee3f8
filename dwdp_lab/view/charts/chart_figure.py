"""A chart as a plotly figure."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from dwdp_lab.timeline.palette import INK
from dwdp_lab.view.charts.chart_data import ChartData


def chart_figure(chart: ChartData) -> go.Figure:
    """The same chart to zoom and hover."""
    figure = go.Figure()
    for bars in chart.bars:
        figure.add_trace(go.Bar(name=bars.label, x=chart.categories, y=bars.values, marker={"color": bars.colour}))
    for curve in chart.curves:
        parts = [name for name, shown in (("lines", curve.line), ("markers", curve.points)) if shown]
        if curve.labels:
            parts.append("text")
        figure.add_trace(
            go.Scatter(
                name=curve.label,
                x=curve.x,
                y=curve.y,
                text=curve.labels or None,
                mode="+".join(parts),
                textposition="top right",
                line={"color": curve.colour, "dash": "dash" if curve.dashed else "solid"},
                marker={"color": curve.colour, "size": 7},
            )
        )
    for name, value in chart.limits:
        figure.add_hline(y=value, line={"color": INK, "dash": "dash"}, annotation={"text": name})
    figure.update_layout(
        title={"text": chart.title, "subtitle": {"text": chart.words}},
        barmode="stack" if chart.stacked else "group",
        plot_bgcolor="white",
        font={"color": INK},
        xaxis=_axis(chart.x_title, chart.log_x, bool(chart.categories)),
        yaxis=_axis(chart.y_title, chart.log_y, False),
    )
    return figure


def _axis(title: str, log: bool, categories: bool) -> dict[str, Any]:
    kind = "category" if categories else "log" if log else "linear"
    return {"title": {"text": title}, "type": kind, "gridcolor": "#D9DEE4"}
