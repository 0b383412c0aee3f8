"""Timelines as plain JSON, so that a measured run can be kept and shown where it cannot be made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dwdp_lab.timeline.span import Span, Timeline

FORMAT = "dwdp-lab timeline 1"
RECORDED_AS = "recorded_provenance"
"""Key in a recorded timeline's environment: the provenance it had when it ran."""


def to_json(timeline: Timeline) -> dict[str, Any]:
    """Plain JSON values; `from_json` of them gives the same spans."""
    return {
        "format": FORMAT,
        "strategy": timeline.strategy,
        "machine": timeline.machine,
        "provenance": timeline.provenance,
        "tokens": list(timeline.tokens),
        "steps": timeline.steps,
        "notes": list(timeline.notes),
        "environment": dict(timeline.environment),
        "span_fields": list(Span._fields),
        "spans": [list(span) for span in timeline.spans],
    }


def from_json(plain: Mapping[str, Any]) -> Timeline:
    """A timeline of provenance `recorded`, so that it never looks live.

    The provenance it had when it ran is in the notes and in the environment (`recorded_provenance`).
    Raises ValueError for anything that `to_json` does not write.
    """
    if plain.get("format") != FORMAT:
        raise ValueError(f"format = {plain.get('format')!r}: this version reads {FORMAT!r}")
    if plain.get("span_fields") != list(Span._fields):
        raise ValueError(f"span_fields = {plain.get('span_fields')!r}: needs {list(Span._fields)}")
    try:
        environment = dict(plain["environment"])
        notes = tuple(plain["notes"])
        if plain["provenance"] != "recorded":
            environment[RECORDED_AS] = plain["provenance"]
            notes += (f"recorded; {plain['provenance']} when it ran",)
        timeline = Timeline(
            spans=tuple([_span(number, values) for number, values in enumerate(plain["spans"])]),
            strategy=plain["strategy"],
            machine=plain["machine"],
            provenance="recorded",
            tokens=tuple(plain["tokens"]),
            steps=plain["steps"],
            notes=notes,
            environment=environment,
        )
    except KeyError as missing:
        raise ValueError(f"{missing.args[0]}: missing; needed are the fields that to_json writes") from None
    if timeline.machine not in ("sim", "cpu", "cuda"):
        raise ValueError(f"machine = {timeline.machine!r}: allowed are 'sim', 'cpu' and 'cuda'")
    for number, span in enumerate(timeline.spans):
        if not 0 <= span.rank < timeline.ranks:
            raise ValueError(f"spans[{number}].rank = {span.rank!r}: `tokens` has {timeline.ranks} ranks")
    return timeline


def _span(number: int, values: Any) -> Span:
    try:
        rank, lane, kind, step, layer, *numbers = values
        start_us, end_us, nbytes, flops = [float(value) for value in numbers]
    except (TypeError, ValueError):
        raise ValueError(f"spans[{number}] = {values!r}: needs {', '.join(Span._fields)}") from None
    return Span(int(rank), str(lane), str(kind), int(step), int(layer), start_us, end_us, nbytes, flops)
