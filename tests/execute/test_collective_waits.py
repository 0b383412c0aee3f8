from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from dwdp_lab.execute.collective_waits import messages, split_waits
from dwdp_lab.program.build import build
from dwdp_lab.program.operation import Op, Program
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.timeline.span import Span


def dispatch(rank: int, start: float, end: float, layer: int = 0) -> Span:
    return Span(rank, "comm", "dispatch", 0, layer, start, end, 100.0)


def test_the_early_rank_waits_and_the_last_does_not() -> None:
    spans = split_waits([dispatch(0, 1, 10), dispatch(1, 6, 11)])
    assert spans == (
        Span(0, "comm", "wait_peers", 0, 0, 1, 6),
        Span(0, "comm", "dispatch", 0, 0, 6, 10, 100.0),
        Span(1, "comm", "dispatch", 0, 0, 6, 11, 100.0),
    )


def test_layers_and_kinds_are_split_apart() -> None:
    combine = dispatch(0, 20, 30)._replace(kind="combine")
    spans = split_waits([dispatch(0, 0, 5), dispatch(1, 0, 5), dispatch(0, 7, 9, layer=1), combine])
    assert not [span for span in spans if span.kind == "wait_peers"]


def test_who_leaves_before_the_last_comes_has_only_waited() -> None:
    spans = split_waits([dispatch(0, 1, 3), dispatch(1, 6, 11)])
    assert spans[0] == Span(0, "comm", "wait_peers", 0, 0, 1, 3)
    assert spans[1].duration_us == 0


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=1, max_size=6))
def test_no_time_is_lost_or_added(arrivals: list[tuple[float, float]]) -> None:
    whole = [dispatch(rank, start, start + length) for rank, (start, length) in enumerate(arrivals)]
    compute = Span(0, "compute", "experts", 0, 0, 0, 5)
    spans = split_waits([*whole, compute])
    assert compute in spans
    for span in whole:
        parts = [part for part in spans if part.rank == span.rank and part.lane == "comm"]
        assert math.isclose(sum(part.duration_us for part in parts), span.duration_us, abs_tol=1e-9)
        assert min(part.start_us for part in parts) == span.start_us
        assert max(part.end_us for part in parts) == span.end_us
        assert sum(part.nbytes for part in parts) == 100.0


def test_a_message_is_a_meeting_of_its_two_ends() -> None:
    """Two messages, the second of which is sent before its receiver is there; a third rank has nothing to do."""
    programs = [
        Program(rank, tuple(Op(kind, "copy", 0, 1, micro=micro, peer=1 - rank) for micro in range(2)))
        for rank, kind in ((0, "send"), (1, "recv"))
    ]
    programs.append(Program(2, ()))
    reports = [
        [Span(0, "copy", "send", 0, 1, 5, 6, 100.0), Span(0, "copy", "send", 0, 1, 6, 9, 100.0)],
        [Span(1, "comm", "recv", 0, 1, 0, 7), Span(1, "comm", "recv", 0, 1, 8, 10)],
        [],
    ]
    spans = split_waits([span for spans in reports for span in spans], messages(programs, reports))
    assert spans == (
        Span(0, "copy", "send", 0, 1, 5, 6, 100.0),
        Span(0, "copy", "wait_peers", 0, 1, 6, 8),
        Span(0, "copy", "send", 0, 1, 8, 9, 100.0),
        Span(1, "comm", "wait_peers", 0, 1, 0, 5),
        Span(1, "comm", "recv", 0, 1, 5, 7),
        Span(1, "comm", "recv", 0, 1, 8, 10),
    )


def test_who_leaves_a_message_in_a_mailbox_has_not_waited() -> None:
    for left in (4, 6):  # the receiver comes at 6
        ends = Span(0, "copy", "send", 0, 1, 3, left, 100.0), Span(1, "comm", "recv", 0, 1, 6, 8)
        assert split_waits((), [ends]) == ends


def test_a_run_without_spans_has_no_messages() -> None:
    work = Scenario.create(group={"ranks": 2}, strategy={"name": "pipeline"})
    programs = build(work)
    assert any(op.kind == "send" for program in programs for op in program.ops)
    assert messages(programs, [(), ()]) == []
