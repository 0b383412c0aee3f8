"""The plotly figure: every span one bar in the right trace and place, and updates in place."""

from __future__ import annotations

from dataclasses import replace

import plotly.graph_objects as go
import pytest

from dwdp_lab.timeline.palette import EXPOSED, KIND_STYLES
from dwdp_lab.timeline.span import Span, Timeline
from dwdp_lab.view.picture import timeline_picture
from dwdp_lab.view.timeline_plot import timeline_figure, update_timeline_figure

DEP = Timeline(
    (
        Span(0, "compute", "attention", 0, 3, 0, 1000, 2e9, 4e9),
        Span(0, "comm", "wait_peers", 0, 3, 1000, 3000),
        Span(0, "comm", "dispatch", 0, 3, 3000, 4000, 1e6),
        Span(1, "compute", "attention", 0, 3, 0, 3000),
        Span(1, "comm", "dispatch", 0, 3, 3000, 4000, 1e6),
    ),
    "dep",
    "sim",
    "simulated",
    (800, 1600),
    1,
    ("hardware profile h100 (limit)",),
)
DWDP = Timeline(
    (
        Span(0, "compute", "attention", 0, 3, 0, 1000),
        Span(0, "copy", "pull", 0, 3, 0, 1500, 9e8),
        Span(0, "compute", "experts", 0, 3, 1500, 4000),
        Span(0, "compute", "mystery", 0, 3, 4000, 5000),
    ),
    "dwdp",
    "cpu",
    "measured",
    (800,),
    1,
)


def trace(figure: go.Figure, name: str) -> go.Bar:
    [found] = [bar for bar in figure.data if bar.name == name]
    return found


def test_bars_lie_where_the_spans_are() -> None:
    figure = timeline_figure(DEP)
    attention = trace(figure, "attention")
    assert (list(attention.base), list(attention.x)) == ([0, 0], [1, 3])
    wait = trace(figure, "wait on peers")
    assert (list(wait.base), list(wait.x)) == ([1], [2])
    assert wait.marker.pattern.shape == "/"
    labels = dict(zip(figure.layout.yaxis.tickvals, figure.layout.yaxis.ticktext, strict=True))
    assert [labels[y] for y in attention.y] == ["<b>rank 0</b>  compute", "<b>rank 1</b>  compute"]
    assert [labels[y] for y in wait.y] == ["comm"]


def test_hovering_tells_layer_amounts_and_rates() -> None:
    attention = trace(timeline_figure(DEP), "attention")
    assert attention.customdata[0] == (
        "layer 3, step 0<br>1.0000 ms<br>2,000.00 MB, 2,000.00 GB/s<br>4.000 GFLOP, 4.000 TFLOP/s"
    )
    assert attention.customdata[1] == "layer 3, step 0<br>3.0000 ms"
    assert "%{customdata}" in attention.hovertemplate


def test_timelines_are_stacked_on_one_axis_with_their_worth_above() -> None:
    figure = timeline_figure([DEP, DWDP])
    attention = trace(figure, "attention")
    assert len(set(attention.y)) == 3
    first, second = figure.layout.annotations
    assert "DEP: simulated" in first.text
    assert "hardware profile h100 (limit)" in first.text
    assert "DWDP: measured (CPU ranks)" in second.text
    assert figure.layout.xaxis.range[1] == pytest.approx(5, rel=0.01)
    assert figure.layout.xaxis.title.text == "time (ms)"


def test_exposed_copies_stand_in_the_compute_row() -> None:
    figure = timeline_figure(DWDP)
    exposed = trace(figure, EXPOSED.label)
    assert (list(exposed.base), list(exposed.x)) == ([1], [0.5])
    assert exposed.y[0] == trace(figure, "experts").y[0]
    assert exposed.marker.color == EXPOSED.colour


def test_colours_are_those_of_the_svg_and_the_legend_names_only_what_is_there() -> None:
    figure = timeline_figure(DWDP)
    for style in KIND_STYLES.values():
        assert trace(figure, style.label).marker.color == ("white" if style.hatched else style.colour)
    assert {bar.name for bar in figure.data if bar.showlegend} == {
        "attention",
        "experts",
        "pull weights",
        "exposed copy",
        "other",
    }


@pytest.mark.parametrize("kind_of_figure", [go.Figure, go.FigureWidget])
def test_an_updated_figure_equals_a_new_one(kind_of_figure: type[go.Figure]) -> None:
    figure = kind_of_figure(timeline_figure([DEP, DWDP]))
    changed = [DWDP, replace(DEP, provenance="recorded"), DEP]
    update_timeline_figure(figure, changed)
    fresh = timeline_figure(changed)
    assert figure.layout.to_plotly_json() == fresh.layout.to_plotly_json()
    for bar, expected in zip(figure.data, fresh.data, strict=True):
        for name in ("name", "base", "x", "y", "width", "customdata", "showlegend"):
            assert bar[name] == expected[name], (bar.name, name)


def test_no_timeline_is_refused() -> None:
    with pytest.raises(ValueError, match="needs at least one timeline"):
        timeline_figure([])


def test_a_picture_is_shown_as_svg_and_saved(tmp_path: object) -> None:
    picture = timeline_picture([DEP, DWDP], title="Both")
    assert picture._repr_svg_().startswith("<svg ")
    assert "characters of SVG" in repr(picture)
    path = picture.save(f"{tmp_path}/both.svg")
    assert path.read_text(encoding="utf-8") == picture.svg
