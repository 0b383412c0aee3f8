"""A profiled step in a Chrome trace: more rows beneath each rank's lanes, under the same step of the run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dwdp_lab.timeline.palette import LANE_ORDER
from dwdp_lab.timeline.profiled import Profiled
from dwdp_lab.timeline.span import Timeline

FIRST_THREAD = 10
"""Above the lanes' own numbers."""


def moved_us(timeline: Timeline, profiled: Profiled) -> float:
    """How far the profiled step is moved, on all ranks alike, to begin where that step of the run begins."""
    began = min((span.start_us for span in timeline.spans if span.step == profiled.step), default=0.0)
    starts = [span.start_us for span in profiled.spans] + [kernel.start_us for kernel in profiled.kernels]
    again = min(starts, default=began)
    return began - again


def told(timeline: Timeline, profiled: Profiled) -> dict[str, Any]:
    """What a reader must know of these rows."""
    return {
        "step": profiled.step,
        "what": "this step once more, under torch.profiler, after the run: a little slower than in the run"
        + ("" if profiled.kernels else "; the profiler saw no kernels (is CUPTI allowed here?)"),
        "moved_us": round(moved_us(timeline, profiled), 3),
        "clock_error_us": round(profiled.clock_error_us, 3),
        "outside_operations_us": round(profiled.outside_us, 3),
    }


def profiled_events(timeline: Timeline, profiled: Profiled, first_process: int) -> Iterator[dict[str, Any]]:
    """Per lane a row of operations and a row of what ran within them; then streams that belong to no lane."""
    moved = moved_us(timeline, profiled)
    within = "kernels" if timeline.machine == "cuda" else "torch operations"
    lanes = {span.lane for span in profiled.spans} | {kernel.lane for kernel in profiled.kernels}
    known = [lane for lane in LANE_ORDER if lane in lanes]
    rows = {lane: FIRST_THREAD + 2 * number for number, lane in enumerate([*known, *sorted(lanes.difference(known))])}
    for rank in range(timeline.ranks):
        label = {"ph": "M", "pid": first_process + rank}
        for lane, tid in rows.items():
            names = {tid: f"{lane}, profiled", tid + 1: f"{lane}: {within}"}
            for thread, name in names.items():
                yield {**label, "name": "thread_name", "tid": thread, "args": {"name": name}}
                yield {**label, "name": "thread_sort_index", "tid": thread, "args": {"sort_index": thread}}
    for span in profiled.spans:
        yield {
            "ph": "X",
            "name": f"{span.kind} L{span.layer}",
            "cat": "profiled",
            "pid": first_process + span.rank,
            "tid": rows[span.lane],
            **_times(span.start_us + moved, span.duration_us),
            "args": {"step": span.step, "layer": span.layer},
        }
    for kernel in profiled.kernels:
        yield {
            "ph": "X",
            "name": kernel.name,
            "cat": within,
            "pid": first_process + kernel.rank,
            "tid": rows[kernel.lane] + 1,
            **_times(kernel.start_us + moved, kernel.end_us - kernel.start_us),
            "args": {"of": kernel.of} | ({"bytes": kernel.nbytes} if kernel.nbytes else {}),
        }


def _times(start_us: float, duration_us: float) -> dict[str, float]:
    return {"ts": round(start_us, 3), "dur": round(max(0.0, duration_us), 3)}
