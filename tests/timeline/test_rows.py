"""The rows of a picture: which, in which order, and exposed copies among what is computed."""

from __future__ import annotations

from dwdp_lab.timeline.palette import lanes_in_use
from dwdp_lab.timeline.rows import EXPOSED_KIND, rows
from dwdp_lab.timeline.span import Span, Timeline

SPANS = (
    Span(1, "comm", "dispatch", 0, 0, 4.0, 5.0),
    Span(0, "copy", "pull", 0, 0, 0.0, 3.0),
    Span(0, "compute", "attention", 0, 0, 0.0, 1.0),
    Span(1, "compute", "attention", 0, 0, 0.0, 4.0),
    Span(0, "other", "unheard of", 0, 0, 0.0, 1.0),
    Span(0, "compute", "experts", 0, 0, 3.0, 7.0),
)
TIMELINE = Timeline(SPANS, "own", "sim", "simulated", (1, 1), 1)


def test_every_rank_has_all_lanes_in_use_and_unknown_ones_come_last() -> None:
    assert lanes_in_use(TIMELINE) == ("compute", "copy", "comm", "other")
    found = [(row.rank, row.lane, row.end_us, len(row.spans)) for row in rows(TIMELINE)]
    assert found == [
        (0, "compute", 7.0, 3),
        (0, "copy", 7.0, 1),
        (0, "comm", 7.0, 0),
        (0, "other", 7.0, 1),
        (1, "compute", 5.0, 1),
        (1, "copy", 5.0, 0),
        (1, "comm", 5.0, 1),
        (1, "other", 5.0, 0),
    ]


def test_what_no_compute_covers_of_a_copy_is_shown_among_the_compute() -> None:
    exposed = [span for span in rows(TIMELINE)[0].spans if span.kind == EXPOSED_KIND]
    assert [(span.rank, span.start_us, span.end_us) for span in exposed] == [(0, 1.0, 3.0)]
