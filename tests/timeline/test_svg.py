"""The SVG: well-formed, deterministic, in proportion, small, and honest about crowds of spans."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwdp_lab.timeline.bars import Bar, drawn
from dwdp_lab.timeline.palette import EXPOSED, GREEN, KIND_STYLES, ORANGE
from dwdp_lab.timeline.span import Span, Timeline
from dwdp_lab.timeline.svg import GUTTER, MARGIN, timeline_svg
from dwdp_lab.timeline.words import figures

SVG = "{http://www.w3.org/2000/svg}"
DEP = Timeline(
    (
        Span(0, "compute", "attention", 0, 0, 0, 1000),
        Span(0, "comm", "wait_peers", 0, 0, 1000, 3000),
        Span(0, "comm", "dispatch", 0, 0, 3000, 4000),
        Span(0, "compute", "experts", 0, 0, 4000, 8000),
    ),
    "dep",
    "sim",
    "simulated",
    (800,),
    1,
    ("hardware profile <h100> & more",),
)
DWDP = Timeline(
    (
        Span(0, "compute", "attention", 0, 0, 0, 1000),
        Span(0, "copy", "pull", 0, 0, 0, 1500),
        Span(0, "compute", "experts", 0, 0, 1500, 4000),
    ),
    "dwdp",
    "cpu",
    "measured",
    (800,),
    1,
)


def bars_of(svg: str, colour: str) -> list[tuple[float, float]]:
    """(left, width) in pixels of all bars of a colour, without the legend's squares."""
    outlines = [
        path.get("d", "")
        for path in ElementTree.fromstring(svg).iter(f"{SVG}path")
        if path.get("fill") == colour or (colour == "wait" and str(path.get("fill")).startswith("url(#w"))
    ]
    found = re.findall(r"M([\d.]+) 0h([\d.]+)v", " ".join(outlines))
    return [(float(left), float(width)) for left, width in found]


def texts(svg: str) -> str:
    return " | ".join(text.text or "" for text in ElementTree.fromstring(svg).iter(f"{SVG}text"))


def test_timelines_share_one_axis() -> None:
    svg = timeline_svg([DEP, DWDP], width=946)
    scale = (946 - GUTTER - MARGIN) / 8  # pixels per millisecond: DEP, the longer one, fills the width
    assert bars_of(svg, GREEN) == [(4 * scale, 4 * scale), (1.5 * scale, 2.5 * scale)]
    assert bars_of(svg, "wait") == [(scale, 2 * scale)]
    assert bars_of(svg, ORANGE) == [(0, 1.5 * scale)]


def test_ticks_stand_where_their_times_are() -> None:
    svg = timeline_svg([DEP, DWDP], width=946)
    labels = {text.text: text.get("x") for text in ElementTree.fromstring(svg).iter(f"{SVG}text")}
    scale = (946 - GUTTER - MARGIN) / 8
    assert {time: float(labels[time] or 0) for time in ("0", "2", "8")} == {
        "0": GUTTER,
        "2": GUTTER + 2 * scale,
        "8": GUTTER + 8 * scale,
    }


def test_an_exposed_copy_fills_the_gap_in_the_compute_row() -> None:
    svg = timeline_svg(DWDP, width=946)
    scale = (946 - GUTTER - MARGIN) / 4
    assert bars_of(svg, EXPOSED.colour) == [(scale, 0.5 * scale)]
    assert "exposed copy" in texts(svg)
    assert "exposed copy" not in texts(timeline_svg(DEP))


def test_it_says_what_it_shows() -> None:
    svg = timeline_svg([DEP, DWDP], title="The same batch")
    shown = texts(svg)
    assert "The same batch" in shown
    assert "DEP: simulated (virtual time)" in shown
    assert "DWDP: measured (CPU ranks)" in shown
    assert "hardware profile <h100> & more" in shown
    assert "step 8.00 ms: compute 62.5 %, waiting on peers 25.0 %, communication 12.5 %" in shown
    assert "800 tokens" in shown
    assert "time (ms)" in shown
    assert "done at 4.00 ms" in shown


def test_it_can_be_read_aloud() -> None:
    root = ElementTree.fromstring(timeline_svg([DEP, DWDP]))
    assert root.get("role") == "img"
    named = [root.find(f"{SVG}title"), root.find(f"{SVG}desc")]
    assert [element.get("id") for element in named if element is not None] == str(root.get("aria-labelledby")).split()
    assert "waiting on peers 25.0 %" in str(named[1].text if named[1] is not None else "")


def test_it_is_deterministic_and_pictures_can_share_a_page() -> None:
    assert timeline_svg([DEP, DWDP]) == timeline_svg([DEP, DWDP])
    ids = [set(re.findall(r'id="(\w+)"', timeline_svg(timeline))) for timeline in (DEP, DWDP)]
    assert not ids[0] & ids[1]


def test_colours_differ_where_kinds_of_one_strategy_do() -> None:
    for kinds in (
        ("attention", "dense", "route", "experts", "merge", "pull"),
        ("attention", "dense", "route", "experts", "dispatch", "wait_peers"),
    ):
        assert len({KIND_STYLES[kind].colour for kind in kinds}) == len(kinds)
    assert EXPOSED.colour not in {style.colour for style in KIND_STYLES.values()}


def test_forty_thousand_spans_stay_small() -> None:
    spans = tuple(
        Span(rank, "compute", ("attention", "experts")[i % 2], 0, i, i * 10.0, i * 10.0 + 4 + 5 * (i % 2))
        for rank in range(8)
        for i in range(5000)
    )
    svg = timeline_svg(Timeline(spans, "dwdp", "sim", "simulated", (1,) * 8, 1))
    assert len(svg) < 150_000
    assert sum(width for _, width in bars_of(svg, GREEN)) == pytest.approx(8 * 0.45 * (960 - GUTTER - MARGIN), rel=0.1)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="needs at least one timeline"):
        timeline_svg([])
    with pytest.raises(ValueError, match="width = 100: needs at least 480 pixels"):
        timeline_svg(DEP, width=100)


def test_a_timeline_without_spans_can_be_drawn() -> None:
    assert "0 tokens" in texts(timeline_svg(replace(DEP, spans=(), tokens=(0,))))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 0.4), st.floats(0, 0.3)), min_size=3, max_size=300))
def test_a_crowd_keeps_every_kinds_share(lengths: list[tuple[str, float, float]]) -> None:
    bars, x = [], 0.0
    for kind, gap, length in lengths:
        bars.append(Bar(kind, x + gap, x + gap + length))
        x += gap + length
    shown = drawn(bars, 0.5)
    for kind in "abc":
        before = sum(bar.right - bar.left for bar in bars if bar.kind == kind)
        after = sum(bar.right - bar.left for bar in shown if bar.kind == kind)
        assert after == pytest.approx(before, abs=2.5)
    assert all(a.right <= b.left + 1e-9 for a, b in itertools.pairwise(shown))


def test_a_crowd_becomes_cells_as_wide_as_can_be_told_apart() -> None:
    bars = [Bar("ab"[i % 2], i / 4, (i + 1) / 4) for i in range(40)]
    assert [bar.left for bar in drawn(bars, 0.5)] == [i / 2 for i in range(20)]


def test_wide_bars_are_drawn_as_they_are() -> None:
    bars = [Bar("a", 0, 1), Bar("b", 1, 1.5), Bar("a", 3, 9)]
    assert drawn(bars, 0.5) == bars


@given(st.floats(1e-6, 1e12))
def test_figures_keep_three_digits(value: float) -> None:
    assert float(figures(value).replace(",", "")) == pytest.approx(value, rel=0.0051)
    assert "e" not in figures(value)
