"""The Chrome trace: every span, its process and thread, arrows from pulls to experts, and the counters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwdp_lab.timeline.chrome_trace import chrome_trace, write_chrome_trace
from dwdp_lab.timeline.span import Span, Timeline

DWDP = Timeline(
    (
        Span(0, "copy", "pull", 0, 0, 0, 100, 2e6),
        Span(0, "copy", "pull", 0, 1, 100, 300, 2e6),
        Span(0, "compute", "attention", 0, 0, 0, 50, 0, 3e9),
        Span(0, "compute", "experts", 0, 0, 100, 150),
        Span(0, "compute", "experts", 0, 1, 300, 350),
        Span(1, "copy", "pull", 0, 0, 0, 100, 5e5),
        Span(1, "compute", "experts", 0, 0, 120, 150),
    ),
    "dwdp",
    "cpu",
    "measured",
    (8, 8),
    1,
    ("copies paced to 4 GB/s",),
    {"device": "laptop"},
)
DEP = Timeline((Span(0, "comm", "combine", 0, 0, 0, 9, 1e4),), "dep", "sim", "simulated", (4, 4), 1)


def of_phase(trace: dict[str, Any], phase: str) -> list[dict[str, Any]]:
    return [event for event in trace["traceEvents"] if event["ph"] == phase]


def names(trace: dict[str, Any], what: str) -> dict[tuple[int, int | None], str]:
    found = [event for event in of_phase(trace, "M") if event["name"] == what]
    return {(event["pid"], event.get("tid")): event["args"]["name"] for event in found}


def test_every_span_is_a_complete_event_of_its_rank_and_lane() -> None:
    trace = chrome_trace(DWDP)
    threads = names(trace, "thread_name")
    events = of_phase(trace, "X")
    assert len(events) == len(DWDP.spans)
    for event, span in zip(events, DWDP.spans, strict=True):
        assert event["pid"] == span.rank
        assert threads[event["pid"], event["tid"]] == span.lane
        assert (event["ts"], event["dur"]) == (span.start_us, span.duration_us)
        assert event["name"] == f"{span.kind} L{span.layer}"
    assert events[0]["args"] == {"step": 0, "layer": 0, "bytes": 2e6, "gbps": 20.0}
    assert events[2]["args"] == {"step": 0, "layer": 0, "flops": 3e9, "tflops_per_s": 60.0}


def test_arrows_and_counters_stay_in_the_processes_of_their_timeline() -> None:
    alone, second = chrome_trace(DWDP), chrome_trace([DEP, DWDP])
    for phase in ("s", "f", "C"):
        after = [event["pid"] for event in of_phase(second, phase)]
        own = [event["pid"] + 2 for event in of_phase(alone, phase)]
        assert after[len(after) - len(own) :] == own


def test_strategies_in_one_file_have_processes_of_their_own() -> None:
    trace = chrome_trace([DWDP, DEP])
    processes = names(trace, "process_name")
    assert list(processes.values()) == ["dwdp rank 0", "dwdp rank 1", "dep rank 0", "dep rank 1"]
    assert sorted(pid for pid, _ in processes) == [0, 1, 2, 3]
    first, second = trace["otherData"]["runs"]
    assert (first["provenance"], first["notes"]) == ("measured", ["copies paced to 4 GB/s"])
    assert (first["environment"], second["provenance"]) == ({"device": "laptop"}, "simulated")


def test_each_pull_points_at_the_experts_that_read_it() -> None:
    trace = chrome_trace(DWDP)
    starts, ends = of_phase(trace, "s"), of_phase(trace, "f")
    assert [event["id"] for event in starts] == [event["id"] for event in ends]
    assert len({event["id"] for event in starts}) == 3
    assert [(event["pid"], event["ts"]) for event in starts] == [(0, 0), (0, 100), (1, 0)]
    assert [(event["pid"], event["ts"]) for event in ends] == [(0, 100), (0, 300), (1, 120)]
    assert all(event["bp"] == "e" for event in ends)


def test_the_counter_follows_what_is_in_flight() -> None:
    counts = [event for event in of_phase(chrome_trace(DWDP), "C") if event["pid"] == 0]
    assert [(event["ts"], event["args"]["GB/s"]) for event in counts] == [(0, 20.0), (100, 10.0), (300, 0.0)]


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0.01, 1e4), st.floats(1, 1e9)), max_size=20))
def test_the_counter_ends_at_nothing(copies: list[tuple[float, float, float]]) -> None:
    spans = tuple(Span(0, "copy", "pull", 0, 0, start, start + length, size) for start, length, size in copies)
    counts = of_phase(chrome_trace(Timeline(spans, "dwdp", "sim", "simulated", (1,), 1)), "C")
    assert all(event["args"]["GB/s"] >= 0 for event in counts)
    if counts:
        assert counts[-1]["args"]["GB/s"] == pytest.approx(0, abs=0.01)


def test_the_file_is_json(tmp_path: Path) -> None:
    path = write_chrome_trace(tmp_path / "trace.json", [DWDP, DEP])
    assert json.loads(path.read_text()) == json.loads(json.dumps(chrome_trace([DWDP, DEP])))
