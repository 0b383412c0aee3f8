"""A timeline as the page gets it: words and rows as JSON values, spans and link load as columns of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from dwdp_lab.timeline.bars import Bar, drawn
from dwdp_lab.timeline.metrics import StepTime, metrics
from dwdp_lab.timeline.palette import EXPOSED, GREY, INK, KIND_STYLES, Style, heading, lanes_in_use
from dwdp_lab.timeline.rows import EXPOSED_KIND, Row, rows
from dwdp_lab.timeline.segments import COPY_KINDS, WAIT_KIND
from dwdp_lab.timeline.span import Span, Timeline
from dwdp_lab.timeline.words import summary
from dwdp_lab.view.timeline_view.late_peers import Wait, late_peers
from dwdp_lab.view.timeline_view.link_load import link_load

STYLES: dict[str, Style] = {**KIND_STYLES, EXPOSED_KIND: EXPOSED, "": Style(GREY, "other")}
KIND_NUMBERS = {kind: number for number, kind in enumerate(STYLES)}
MOST_SPANS = 30_000
"""Above this, bars too narrow to see are drawn together (see timeline/bars.py)."""
ASSUMED_PIXELS = 1600
AGGREGATED = -2
"""Stands in the layer column of bars that are several operations drawn together."""


def styles_for_page() -> dict[str, Any]:
    """Colours and words, in the order of the kinds' numbers."""
    kinds = [
        {"kind": kind, "label": style.label, "colour": style.colour, "hatched": style.hatched}
        for kind, style in STYLES.items()
    ]
    return {"kinds": kinds, "ink": INK, "pull": KIND_NUMBERS["pull"], "experts": KIND_NUMBERS["experts"]}


def packed(
    timeline: Timeline,
    link_gbps: float | None = None,
    measured: StepTime | None = None,
    most_spans: int = MOST_SPANS,
) -> dict[str, Any]:
    """What the page needs to draw one run; `link_gbps` is drawn as the link's limit where it is known, `measured` are
    the run's metrics where they are known already.

    `floats` are four columns of float32 (start ms, end ms, bytes, FLOPs), `labels` five of int16 (row, kind, layer,
    step, peer waited for), in order of rows and starts.
    """
    lanes = _rows(timeline)
    count = sum(len(row.spans) for row in lanes)
    notes = list(timeline.notes)
    if count > most_spans:
        lanes = _aggregated(lanes)
        shown = sum(len(row.spans) for row in lanes)
        notes.append(f"{count:,} operations drawn as {shown:,} bars; Perfetto shows every one")
    floats, labels = _columns(lanes, late_peers(timeline))
    load = link_load(timeline)
    return {
        "heading": heading(timeline),
        "provenance": timeline.provenance,
        "summary": summary(measured or metrics(timeline)),
        "notes": notes,
        "rows": [{"rank": row.rank, "lane": row.lane, "end_ms": row.end_us / 1e3} for row in lanes],
        "tokens": list(timeline.tokens),
        "end_ms": max((span.end_us for span in timeline.spans), default=0.0) / 1e3,
        "count": floats.shape[1],
        "operations": len(timeline.spans),
        "floats": floats.tobytes(),
        "labels": labels.tobytes(),
        "load_points": len(load.time_us),
        "load": np.array([load.time_us / 1e3, load.gbps], dtype="<f4").tobytes(),
        "link_gbps": link_gbps,
    }


def _rows(timeline: Timeline) -> list[Row]:
    """`rows`, at half the price for a run in which nothing is copied, so that no copy can be exposed."""
    if any(span.kind in COPY_KINDS or span.lane == "copy" for span in timeline.spans):
        return rows(timeline)
    lanes = lanes_in_use(timeline)
    spans: dict[tuple[int, str], list[Span]] = {(rank, lane): [] for rank in range(timeline.ranks) for lane in lanes}
    end_us = [0.0] * timeline.ranks
    for span in timeline.spans:
        spans[span.rank, span.lane].append(span)
        if span.kind != WAIT_KIND and span.end_us > end_us[span.rank]:
            end_us[span.rank] = span.end_us
    return [Row(rank, lane, end_us[rank], tuple(found)) for (rank, lane), found in spans.items()]


def _columns(lanes: list[Row], peers: dict[Wait, int]) -> tuple[Any, Any]:
    spans: list[Span] = []
    places: list[int] = []
    for number, row in enumerate(lanes):
        spans += sorted(row.spans, key=lambda span: span.start_us)
        places += [number] * len(row.spans)
    if not spans:
        return np.zeros((4, 0), dtype="<f4"), np.zeros((5, 0), dtype="<i2")
    _, _, kinds, steps, layers, starts, ends, nbytes, flops = zip(*spans, strict=True)
    floats = np.array([starts, ends, nbytes, flops])
    floats[:2] /= 1e3
    other = KIND_NUMBERS[""]
    numbers = [KIND_NUMBERS.get(kind, other) for kind in kinds]
    waited = [peers.get((s.rank, s.lane, s.start_us), -1) if s.kind == "wait_peers" else -1 for s in spans]
    return floats.astype("<f4"), np.array([places, numbers, layers, steps, waited], dtype="<i2")


def _aggregated(lanes: list[Row]) -> list[Row]:
    """Rows in which crowds of bars narrower than a pixel are cells (see timeline/bars.py)."""
    end_us = max((span.end_us for row in lanes for span in row.spans), default=0.0) or 1.0
    per_us = ASSUMED_PIXELS / end_us
    result = []
    for row in lanes:
        exact = {(s.kind, s.start_us * per_us, s.end_us * per_us): s for s in row.spans}
        bars = drawn([Bar(*key) for key in exact], 1.0)
        spans = [
            exact.get(bar) or Span(row.rank, row.lane, bar.kind, 0, AGGREGATED, bar.left / per_us, bar.right / per_us)
            for bar in bars
        ]
        result.append(row._replace(spans=tuple(spans)))
    return result
