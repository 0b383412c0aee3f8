"""Splits each measured collective, and each message, into waiting for the last rank and the exchange itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from dwdp_lab.program.operation import COLLECTIVES, MESSAGES, Program
from dwdp_lab.timeline.span import Span

Ends = tuple[Span, Span]
"""The two spans of one message."""


def split_waits(spans: Iterable[Span], messages: Iterable[Ends] = ()) -> tuple[Span, ...]:
    """The spans of all ranks with every collective cut in two at the moment the last rank reached it.

    A rank records when it entered a collective and when it left; only all ranks together know when it could
    begin. The last rank gets no `wait_peers`. A rank that needed nothing from the late ones may leave before
    they come: all of its span is then waiting. A message is a meeting of the two ranks at its ends, which are given
    in `messages`; `spans` may hold them too. A sender that has left before the receiver came has waited for nobody:
    what it sent lies in the receiver's mailbox.
    """
    kept: list[Span] = []
    met: dict[tuple[str, int, int], list[Span]] = {}
    for span in spans:
        if span.kind in COLLECTIVES:
            met.setdefault((span.kind, span.step, span.layer), []).append(span)
        elif span.kind not in MESSAGES:
            kept.append(span)
    for group in (*met.values(), *messages):
        last = max(span.start_us for span in group)
        for span in group:
            left_it = span.kind == "send" and span.end_us <= last
            begin = span.start_us if left_it else min(last, span.end_us)
            if begin > span.start_us:
                kept.append(span._replace(kind="wait_peers", end_us=begin, nbytes=0.0, flops=0.0))
            kept.append(span._replace(start_us=begin))
    return tuple(sorted(kept, key=lambda span: (span.rank, span.start_us)))


def messages(programs: Sequence[Program], reports: Sequence[Sequence[Span]]) -> list[Ends]:
    """The two ends of every message. `reports[r][i]` is the span of the i-th operation of the r-th program.

    The n-th that a rank sends to another is the n-th that this one receives from it: the checker has seen to that.
    A run that was not recorded has no spans, and so no messages.
    """
    if not any(reports):
        return []
    sent: dict[tuple[int, int], list[Span]] = defaultdict(list)
    received: dict[tuple[int, int], list[Span]] = defaultdict(list)
    for program, spans in zip(programs, reports, strict=True):
        for op, span in zip(program.ops, spans, strict=True):
            if op.peer is not None and op.kind == "send":
                sent[program.rank, op.peer].append(span)
            elif op.peer is not None and op.kind == "recv":
                received[op.peer, program.rank].append(span)
    return [ends for pair, spans in sent.items() for ends in zip(spans, received[pair], strict=True)]
