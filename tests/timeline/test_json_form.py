"""Timelines through JSON and back: the same spans, and never mistaken for a live run."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwdp_lab.timeline.json_form import from_json, to_json
from dwdp_lab.timeline.metrics import metrics
from dwdp_lab.timeline.span import Span, Timeline

MEASURED = Timeline(
    (Span(0, "copy", "pull", 0, 1, 0.1, 0.3, 1e6), Span(1, "compute", "experts", 2, 1, 1 / 3, 2 / 3, 0, 1e9)),
    "dwdp",
    "cuda",
    "measured",
    (5, 7),
    3,
    ("two ranks share one GPU",),
    {"device": "NVIDIA H100"},
)
numbers = st.floats(allow_nan=False, allow_infinity=False)
spans = st.builds(
    Span,
    st.integers(0, 1),
    st.text(),
    st.text(),
    st.integers(),
    st.integers(),
    numbers,
    numbers,
    numbers,
    numbers,
)


def test_a_recorded_timeline_says_so_and_what_it_was() -> None:
    read = from_json(json.loads(json.dumps(to_json(MEASURED))))
    assert read.provenance == "recorded"
    assert read.spans == MEASURED.spans
    assert read.notes == ("two ranks share one GPU", "recorded; measured when it ran")
    assert read.environment == {"device": "NVIDIA H100", "recorded_provenance": "measured"}
    assert metrics(read) == metrics(MEASURED)


def test_recording_again_changes_nothing() -> None:
    read = from_json(to_json(MEASURED))
    assert from_json(json.loads(json.dumps(to_json(read)))) == read


@given(st.lists(spans, max_size=5))
def test_spans_survive_exactly(some: list[Span]) -> None:
    timeline = Timeline(tuple(some), "dep", "sim", "simulated", (1, 1), 1)
    assert from_json(json.loads(json.dumps(to_json(timeline)))).spans == timeline.spans


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, r"format = 'other': this version reads 'dwdp-lab timeline 1'"),
        ({"span_fields": ["rank"]}, r"span_fields = \['rank'\]: needs \['rank', 'lane'"),
        ({"spans": [[0, "copy"]]}, r"spans\[0\] = \[0, 'copy'\]: needs rank, lane"),
        ({"spans": [[2, "copy", "pull", 0, 0, 0, 1, 0, 0]]}, r"spans\[0\].rank = 2: `tokens` has 2 ranks"),
        ({"machine": "abacus"}, r"machine = 'abacus': allowed are 'sim', 'cpu' and 'cuda'"),
    ],
)
def test_what_is_no_timeline_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_json({**to_json(MEASURED), **change})


def test_a_missing_field_is_named() -> None:
    plain = to_json(MEASURED)
    del plain["tokens"]
    with pytest.raises(ValueError, match="tokens: missing"):
        from_json(plain)
