"""Timelines as a plotly figure: zoom, hover, hide a kind; and the same figure changed in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import plotly.graph_objects as go

from dwdp_lab.timeline.metrics import metrics
from dwdp_lab.timeline.palette import EXPOSED, GREY, INK, KIND_STYLES, Style, heading
from dwdp_lab.timeline.rows import EXPOSED_KIND, rows
from dwdp_lab.timeline.span import Span, Timeline
from dwdp_lab.timeline.words import summary

TRACES: dict[str, Style] = {**KIND_STYLES, EXPOSED_KIND: EXPOSED, "": Style(GREY, "other")}
"""One trace per kind, always all and in this order, so that a figure can be changed in place."""

PIXELS_PER_ROW = 20
HEADING_ROWS = 2.8
BAR_WIDTH = {"compute": 0.86, "comm": 0.86, "copy": 0.6}


@dataclass
class _Bars:
    """The bars of one trace."""

    base: list[float] = field(default_factory=list)
    x: list[float] = field(default_factory=list)
    y: list[float] = field(default_factory=list)
    width: list[float] = field(default_factory=list)
    customdata: list[str] = field(default_factory=list)


def timeline_figure(timelines: Timeline | Sequence[Timeline]) -> go.Figure:
    """One bar per span, one trace per kind, one row per rank and lane, all on one axis in milliseconds.

    Raises ValueError for no timeline.
    """
    bars, layout = _contents(timelines)
    figure = go.Figure(layout=go.Layout(**_FIXED_LAYOUT, **layout))
    for kind, style in TRACES.items():
        figure.add_trace(
            go.Bar(
                name=style.label,
                orientation="h",
                marker=_marker(style),
                hovertemplate=f"<b>{style.label}</b>, %{{customdata}}<extra></extra>",
                **vars(bars[kind]),
                showlegend=bool(bars[kind].x),
            )
        )
    return figure


def update_timeline_figure(figure: go.Figure | go.FigureWidget, timelines: Timeline | Sequence[Timeline]) -> None:
    """Show other timelines in a figure that `timeline_figure` made; a widget is redrawn once."""
    bars, layout = _contents(timelines)
    with figure.batch_update():
        for trace, kind in zip(figure.data, TRACES, strict=True):
            of_kind = bars[kind]
            if of_kind.x or trace.x:
                trace.update(**vars(of_kind), showlegend=bool(of_kind.x))
        for name, value in layout.items():  # not `layout.update`, which merges annotations one by one
            figure.layout[name] = value


_FIXED_LAYOUT: dict[str, Any] = {
    "barmode": "overlay",
    "plot_bgcolor": "white",
    "paper_bgcolor": "white",
    "font": {"color": INK, "size": 12},
    "margin": {"l": 120, "r": 20, "t": 10, "b": 40},
    "legend": {"orientation": "h", "yanchor": "top", "y": -0.12, "x": 0},
    "hoverlabel": {"align": "left"},
}


def _contents(timelines: Timeline | Sequence[Timeline]) -> tuple[dict[str, _Bars], dict[str, Any]]:
    """The bars of each trace, and the layout that depends on the timelines."""
    several = [timelines] if isinstance(timelines, Timeline) else list(timelines)
    if not several:
        raise ValueError("timelines = []: needs at least one timeline")
    bars = {kind: _Bars() for kind in TRACES}
    labels: dict[float, str] = {}
    annotations = []
    y = 0.0
    for timeline in several:
        annotations.append(_annotation(timeline, y))
        y += HEADING_ROWS
        last_rank = -1
        for row in rows(timeline):
            if row.rank != last_rank:
                y += 0.3
                labels[y] = f"<b>rank {row.rank}</b>  {row.lane}"
            else:
                labels[y] = row.lane
            last_rank = row.rank
            for span in row.spans:
                _add(bars[span.kind if span.kind in TRACES else ""], span, y)
            y += 1
        y += 0.6
    end_ms = max([span.end_us for t in several for span in t.spans], default=0.0) / 1e3 or 1.0
    layout = {
        "height": round(PIXELS_PER_ROW * y) + 120,
        "xaxis": {"range": [0, end_ms * 1.005], "title": {"text": "time (ms)"}, "gridcolor": "#D9DEE4"},
        "yaxis": {
            "range": [y - 0.5, -0.7],
            "tickvals": list(labels),
            "ticktext": list(labels.values()),
            "showgrid": False,
            "zeroline": False,
        },
        "annotations": annotations,
    }
    return bars, layout


def _add(bars: _Bars, span: Span, y: float) -> None:
    duration_us = span.end_us - span.start_us
    bars.base.append(span.start_us / 1e3)
    bars.x.append(duration_us / 1e3)
    bars.y.append(y)
    bars.width.append(BAR_WIDTH.get(span.lane, 0.86))
    words = f"{duration_us / 1e3:,.4f} ms"
    if span.layer >= 0:
        words = f"layer {span.layer}, step {span.step}<br>{words}"
    if span.nbytes and duration_us > 0:
        words += f"<br>{span.nbytes / 1e6:,.2f} MB, {span.nbytes / duration_us / 1e3:,.2f} GB/s"
    if span.flops and duration_us > 0:
        words += f"<br>{span.flops / 1e9:,.3f} GFLOP, {span.flops / duration_us / 1e6:,.3f} TFLOP/s"
    bars.customdata.append(words)


def _annotation(timeline: Timeline, y: float) -> dict[str, Any]:
    notes = " · ".join(timeline.notes) or " "  # always three lines, so that they stay where they are
    text = f"<b>{heading(timeline)}</b><br><span style='font-size:11px'>{summary(metrics(timeline))}<br>{notes}</span>"
    place = {"xref": "paper", "x": 0, "xanchor": "left", "xshift": -105, "y": y + 0.8, "yanchor": "middle"}
    return {"text": text, "showarrow": False, "align": "left", **place}


def _marker(style: Style) -> dict[str, Any]:
    if not style.hatched:
        return {"color": style.colour, "line": {"width": 0}}
    pattern = {"shape": "/", "fgcolor": style.colour, "bgcolor": "white", "size": 5, "solidity": 0.35}
    return {"color": "white", "line": {"width": 0.5, "color": style.colour}, "pattern": pattern}
