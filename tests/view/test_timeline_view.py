"""What the page gets to draw: every span in its row, whom waits were for, the links' load, and files on demand."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from any_scenario import scenarios
from hypothesis import given, settings

from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.run import run_sim
from dwdp_lab.timeline.rows import rows
from dwdp_lab.timeline.segments import COPY_KINDS, TOKEN_KINDS
from dwdp_lab.timeline.span import Span, Timeline
from dwdp_lab.view.timeline_view.late_peers import late_peers
from dwdp_lab.view.timeline_view.link_load import link_load
from dwdp_lab.view.timeline_view.packed import AGGREGATED, KIND_NUMBERS, packed
from dwdp_lab.view.timeline_view.widget import TimelineView

SCENARIO = Scenario.create(group={"ranks": 3}, workload={"tokens_per_rank": 4096, "cv": 0.3})


def columns(panel: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    count = panel["count"]
    floats = np.frombuffer(panel["floats"], dtype="<f4").reshape(4, count)
    return floats, np.frombuffer(panel["labels"], dtype="<i2").reshape(5, count)


@settings(deadline=None, max_examples=60)
@given(scenarios())
def test_every_span_is_in_its_row_in_order(scenario: Scenario) -> None:
    timeline = run_sim(scenario)
    panel = packed(timeline)
    floats, labels = columns(panel)
    assert [(row["rank"], row["lane"], row["end_ms"]) for row in panel["rows"]] == [
        (row.rank, row.lane, row.end_us / 1e3) for row in rows(timeline)
    ]
    for number, row in enumerate(rows(timeline)):
        inside = labels[0] == number
        expected = sorted(row.spans, key=lambda span: span.start_us)
        assert floats[0][inside] == pytest.approx([span.start_us / 1e3 for span in expected], rel=1e-5)
        assert floats[1][inside] == pytest.approx([span.end_us / 1e3 for span in expected], rel=1e-5)
        assert list(labels[1][inside]) == [KIND_NUMBERS[span.kind] for span in expected]
        assert list(labels[2][inside]) == [span.layer for span in expected]
    assert all(first <= second for first, second in pairwise(labels[0]))


@settings(deadline=None, max_examples=60)
@given(scenarios(("dep", "weight_gather", "tensor", "pipeline")))
def test_a_wait_is_for_a_rank_that_did_not_wait_itself(scenario: Scenario) -> None:
    timeline = run_sim(scenario)
    waits = [span for span in timeline.spans if span.kind == "wait_peers"]
    found = late_peers(timeline)
    assert len(found) == len(waits)
    for wait in waits:
        peer = found[wait.rank, wait.lane, wait.start_us]
        assert peer != wait.rank
        together = [
            other for other in waits if other.rank == peer and other.step == wait.step and other.layer == wait.layer
        ]
        assert wait.end_us not in [other.end_us for other in together]


def test_the_wait_names_the_last_to_arrive() -> None:
    spans = (
        Span(0, "comm", "wait_peers", 0, 3, 1.0, 5.0),
        Span(0, "comm", "dispatch", 0, 3, 5.0, 6.0),
        Span(1, "comm", "dispatch", 0, 3, 5.0, 6.0),
        Span(2, "comm", "wait_peers", 0, 3, 4.0, 5.0),
        Span(2, "comm", "dispatch", 0, 3, 5.0, 6.0),
    )
    assert late_peers(Timeline(spans, "dep", "sim", "simulated", (1, 1, 1), 1)) == {
        (0, "comm", 1.0): 1,
        (2, "comm", 4.0): 1,
    }


@settings(deadline=None, max_examples=60)
@given(scenarios())
def test_the_area_under_the_load_is_what_was_moved(scenario: Scenario) -> None:
    timeline = run_sim(scenario)
    moved = sum(
        span.nbytes for span in timeline.spans if span.kind in COPY_KINDS | TOKEN_KINDS and span.duration_us > 0
    )
    for most in (2000, 20):
        load = link_load(timeline, most)
        area = float(np.sum(load.gbps[:-1] * np.diff(load.time_us))) * 1e3 * timeline.ranks
        assert area == pytest.approx(moved, rel=1e-6, abs=1e-6)
        assert len(load.time_us) <= max(most, 1)
        assert load.gbps.min() >= 0
        assert load.gbps[-1] == 0


def test_too_many_spans_are_drawn_together_and_say_so() -> None:
    timeline = run_sim(SCENARIO.replace(**{"model.layers": 1024}))
    exact, coarse = packed(timeline), packed(timeline, most_spans=500)
    assert coarse["count"] < exact["count"] == sum(len(row.spans) for row in rows(timeline))
    assert "Perfetto shows every one" in coarse["notes"][-1]
    assert AGGREGATED in columns(coarse)[1][2]
    assert coarse["end_ms"] == exact["end_ms"]
    for floats, _ in (columns(exact), columns(coarse)):
        assert floats[1].max() == pytest.approx(exact["end_ms"], rel=1e-3)


def test_the_widget_shows_other_runs_in_place_and_gives_files_when_asked() -> None:
    dep, dwdp = run_sim(SCENARIO.with_strategy("dep")), run_sim(SCENARIO)
    view = TimelineView(dep)
    assert len(view.picture["runs"]) == 1
    view.show([dep, dwdp], [450.0])
    assert [run["link_gbps"] for run in view.picture["runs"]] == [450.0, None]
    assert view.picture["runs"][1]["provenance"] == "simulated"
    sent: list[tuple[dict[str, Any], list[bytes]]] = []
    view.send = lambda content, buffers=None: sent.append((content, buffers or []))
    view._asked(view, {"ask": "trace", "number": 7}, [])
    view._asked(view, {"ask": "picture", "number": 8}, [])
    view._asked(view, {"ask": "something else"}, [])
    view.download("runs.json", "{}")
    assert [content for content, _ in sent] == [{"number": 7}, {"number": 8}, {"file": "runs.json"}]
    trace = json.loads(sent[0][1][0])
    assert sum(event["ph"] == "X" for event in trace["traceEvents"]) == len(dep.spans) + len(dwdp.spans)
    assert sent[1][1][0].decode() == view.static().svg
    assert sent[2][1] == [b"{}"]


def test_an_empty_timeline_is_drawn_empty() -> None:
    panel = packed(Timeline((), "dwdp", "sim", "simulated", (0,), 1))
    assert (panel["count"], panel["rows"], panel["load_points"]) == (0, [], 1)
