"""Whom a wait was for: the rank that reached the collective, or the other end of the message, last."""

from __future__ import annotations

from dwdp_lab.program.operation import COLLECTIVES, MESSAGES
from dwdp_lab.timeline.segments import WAIT_KIND
from dwdp_lab.timeline.span import Timeline

Wait = tuple[int, str, float]
"""Rank, lane and start (us) of a wait span: what tells it from all others."""


def late_peers(timeline: Timeline) -> dict[Wait, int]:
    """For every wait on peers that ends in a collective or a message, the rank it waited for.

    A wait ends where its rank's collective begins; of the ranks that meet there, the one that waited least came last.
    The two ends of a message begin at the same time.
    """
    starts: dict[tuple[int, str, float], float] = {}
    met: dict[tuple[str | float, int, int], list[tuple[int, str, float]]] = {}
    for span in timeline.spans:
        if span.kind == WAIT_KIND:
            starts[span.rank, span.lane, span.end_us] = span.start_us
        elif span.kind in COLLECTIVES:
            met.setdefault((span.kind, span.step, span.layer), []).append((span.rank, span.lane, span.start_us))
        elif span.kind in MESSAGES:
            met.setdefault((span.start_us, span.step, span.layer), []).append((span.rank, span.lane, span.start_us))
    found: dict[Wait, int] = {}
    for group in met.values():
        arrived = [starts.get(place, place[2]) for place in group]
        last = group[arrived.index(max(arrived))][0]
        for (rank, lane, begin), arrival in zip(group, arrived, strict=True):
            if rank != last and arrival < begin:
                found[rank, lane, arrival] = last
    return found
