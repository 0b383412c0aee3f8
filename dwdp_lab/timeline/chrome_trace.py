"""Timelines in Chrome's trace format, which https://ui.perfetto.dev opens.

The format: "Trace Event Format", Google, https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dwdp_lab.timeline.palette import lanes_in_use
from dwdp_lab.timeline.profiled import Profiled
from dwdp_lab.timeline.profiled_trace import profiled_events, told
from dwdp_lab.timeline.span import Span, Timeline

Event = dict[str, Any]


def chrome_trace(timelines: Timeline | Sequence[Timeline], profiled: Sequence[Profiled | None] = ()) -> dict[str, Any]:
    """The trace as plain JSON values: one process per rank, one thread per lane.

    Each pull has an arrow to the experts of the same rank, step and layer, and each rank a counter of the
    GB/s (1e9 bytes/s) that its copies and collectives in flight move. The processes of the first timeline
    are numbered by rank, those of further timelines go on from there. What the numbers are worth
    (provenance, notes, environment) is in `otherData`. `profiled`: of each timeline, if it was made, the step that was
    repeated under a profiler, in rows beneath the lanes.
    """
    several = [timelines] if isinstance(timelines, Timeline) else list(timelines)
    events: list[Event] = []
    first_process = 0
    steps = [*profiled, *[None] * (len(several) - len(profiled))]
    for timeline, step in zip(several, steps, strict=True):
        events += _events(timeline, first_process)
        events += () if step is None else profiled_events(timeline, step, first_process)
        first_process += timeline.ranks
    runs = [
        {
            "strategy": timeline.strategy,
            "machine": timeline.machine,
            "provenance": timeline.provenance,
            "steps": timeline.steps,
            "tokens": list(timeline.tokens),
            "notes": list(timeline.notes),
            "environment": timeline.environment,
        }
        | ({} if step is None else {"profiled": told(timeline, step)})
        for timeline, step in zip(several, steps, strict=True)
    ]
    other = {"producer": "DWDP Lab", "runs": runs}
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": other}


def write_chrome_trace(
    path: str | Path, timelines: Timeline | Sequence[Timeline], profiled: Sequence[Profiled | None] = ()
) -> Path:
    """Write the trace to a file (ending .json) and return its path."""
    path = Path(path)
    path.write_text(json.dumps(chrome_trace(timelines, profiled), allow_nan=False), encoding="utf-8")
    return path


def _events(timeline: Timeline, first_process: int) -> Iterator[Event]:
    threads = {lane: number for number, lane in enumerate(lanes_in_use(timeline), 1)}
    for rank in range(timeline.ranks):
        pid = first_process + rank
        label = {"ph": "M", "pid": pid}
        name = f"{timeline.strategy} rank {rank}"
        labels = f"{timeline.machine}, {timeline.provenance}"
        yield {**label, "name": "process_name", "args": {"name": name}}
        yield {**label, "name": "process_labels", "args": {"labels": labels}}
        yield {**label, "name": "process_sort_index", "args": {"sort_index": pid}}
        for lane, tid in threads.items():
            yield {**label, "name": "thread_name", "tid": tid, "args": {"name": lane}}
            yield {**label, "name": "thread_sort_index", "tid": tid, "args": {"sort_index": tid}}
    for span in timeline.spans:
        yield {
            "ph": "X",
            "name": f"{span.kind} L{span.layer}",
            "cat": span.kind,
            "pid": first_process + span.rank,
            "tid": threads[span.lane],
            "ts": _ns(span.start_us),
            "dur": _ns(max(0.0, span.duration_us)),
            "args": _arguments(span),
        }
    yield from _flows(timeline, first_process, threads)
    yield from _counters(timeline, first_process)


def _arguments(span: Span) -> dict[str, Any]:
    known: dict[str, Any] = {"step": span.step, "layer": span.layer}
    if span.nbytes:
        known["bytes"] = span.nbytes
        if span.duration_us > 0:
            known["gbps"] = round(span.nbytes / span.duration_us / 1e3, 3)
    if span.flops:
        known["flops"] = span.flops
        if span.duration_us > 0:
            known["tflops_per_s"] = round(span.flops / span.duration_us / 1e6, 3)
    return known


def _flows(timeline: Timeline, first_process: int, threads: dict[str, int]) -> Iterator[Event]:
    """An arrow from each pull to the first experts operation that reads what it brought."""
    consumers: dict[tuple[int, int, int], Span] = {}
    for span in timeline.spans:
        if span.kind == "experts":
            key = (span.rank, span.step, span.layer)
            if key not in consumers or span.start_us < consumers[key].start_us:
                consumers[key] = span
    number = 0
    for pull in timeline.spans:
        consumer = consumers.get((pull.rank, pull.step, pull.layer))
        if pull.kind != "pull" or consumer is None:
            continue
        number += 1
        pid = first_process + pull.rank
        arrow = {"name": "weights", "cat": "pull", "id": pid * 1_000_000 + number, "pid": pid}
        yield {**arrow, "ph": "s", "tid": threads[pull.lane], "ts": _ns(pull.start_us)}
        yield {**arrow, "ph": "f", "bp": "e", "tid": threads[consumer.lane], "ts": _ns(consumer.start_us)}


def _counters(timeline: Timeline, first_process: int) -> Iterator[Event]:
    """GB/s of what each rank's copies and collectives move, every span at its mean speed."""
    changes: list[dict[float, float]] = [defaultdict(float) for _ in range(timeline.ranks)]
    for span in timeline.spans:
        if span.lane != "compute" and span.nbytes and span.duration_us > 0:
            speed = span.nbytes / span.duration_us / 1e3
            changes[span.rank][_ns(span.start_us)] += speed
            changes[span.rank][_ns(span.end_us)] -= speed
    for rank, of_rank in enumerate(changes):
        speed = 0.0
        for ts, change in sorted(of_rank.items()):
            speed += change
            args = {"GB/s": max(0.0, round(speed, 3))}
            yield {"ph": "C", "name": "link GB/s", "pid": first_process + rank, "ts": ts, "args": args}


def _ns(us: float) -> float:
    """Microseconds to the nanosecond: finer digits only make files large."""
    return round(us, 3)
