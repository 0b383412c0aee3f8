"""Splits each measured collective into waiting for the last rank and the exchange itself."""

from __future__ import annotations

from collections.abc import Iterable

from dwdp_lab.program.operation import COLLECTIVES
from dwdp_lab.timeline.span import Span


def split_waits(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The spans of all ranks with every collective cut in two at the moment the last rank reached it.

    A rank records when it entered a collective and when it left; only all ranks together know when it could
    begin. The last rank gets no `wait_peers`. A rank that needed nothing from the late ones may leave before
    they come: all of its span is then waiting.
    """
    kept: list[Span] = []
    met: dict[tuple[str, int, int], list[Span]] = {}
    for span in spans:
        if span.kind in COLLECTIVES:
            met.setdefault((span.kind, span.step, span.layer), []).append(span)
        else:
            kept.append(span)
    for group in met.values():
        last = max(span.start_us for span in group)
        for span in group:
            begin = min(last, span.end_us)
            if begin > span.start_us:
                kept.append(span._replace(kind="wait_peers", end_us=begin, nbytes=0.0, flops=0.0))
            kept.append(span._replace(start_us=begin))
    return tuple(sorted(kept, key=lambda span: (span.rank, span.start_us)))
