"""The rows of a picture of timelines: one per rank and lane in use."""

from __future__ import annotations

from typing import NamedTuple

from dwdp_lab.timeline.palette import lanes_in_use
from dwdp_lab.timeline.segments import activities
from dwdp_lab.timeline.span import Span, Timeline

EXPOSED_KIND = "exposed_copy"
"""Kind of the made-up spans that show exposed copies in the gaps of the compute row."""


class Row(NamedTuple):
    """One lane of one rank; `end_us` is when the rank's last computation or exchange of tokens ends."""

    rank: int
    lane: str
    end_us: float
    spans: tuple[Span, ...]


def rows(timeline: Timeline) -> list[Row]:
    """Rows in order of rank, then compute, copy, comm. The compute row also gets a span per exposed copy."""
    lanes = lanes_in_use(timeline)
    places = {lane: place for place, lane in enumerate(lanes)}
    by_row: list[list[list[Span]]] = [[[] for _ in lanes] for _ in range(timeline.ranks)]
    for span in timeline.spans:
        by_row[span.rank][places[span.lane]].append(span)
    result = []
    for rank, activity in enumerate(activities(timeline)):
        if "compute" in places:
            by_row[rank][places["compute"]] += [
                Span(rank, "compute", EXPOSED_KIND, -1, -1, start, end)
                for start, end in activity.states["exposed_copy"]
            ]
        result += [
            Row(rank, lane, activity.end_us, tuple(spans)) for lane, spans in zip(lanes, by_row[rank], strict=True)
        ]
    return result
