"""The sentence and the differences of two runs worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dwdp_lab.timeline.compare import compare, kind_times_ms
from dwdp_lab.timeline.segments import STATES
from dwdp_lab.timeline.span import Span, Timeline
from dwdp_lab.timeline.words import wrapped

DEP = Timeline(
    (
        Span(0, "compute", "attention", 0, 0, 0, 1000),
        Span(0, "comm", "wait_peers", 0, 0, 1000, 3000),
        Span(0, "comm", "dispatch", 0, 0, 3000, 4000),
        Span(0, "compute", "experts", 0, 0, 4000, 8000),
    ),
    "dep",
    "sim",
    "simulated",
    (800,),
    1,
)
DWDP = Timeline(
    (
        Span(0, "compute", "attention", 0, 0, 0, 1030),
        Span(0, "copy", "pull", 0, 0, 0, 1500),
        Span(0, "compute", "experts", 0, 0, 1500, 5500),
    ),
    "dwdp",
    "sim",
    "simulated",
    (800,),
    1,
)


def test_the_sentence_says_what_changed_and_by_how_much() -> None:
    found = compare(DWDP, DEP)
    assert found.speed_up == pytest.approx(8 / 5.5)
    assert str(found) == wrapped(found.words), "printed, it has lines of a notebook's width"
    assert found.words == (
        "DWDP is 1.45 x DEP: of the step, 25.0 % less waiting on peers, 12.5 % less communication "
        "and 5.9 % more exposed copy; attention 3 % slower"
    )


def test_what_takes_several_times_as_long_is_told_as_a_ratio() -> None:
    slow = replace(DWDP, spans=(DWDP.spans[0]._replace(end_us=3500), *DWDP.spans[1:]))
    assert "attention 3.50 x as long" in compare(slow, DEP).words


def test_kinds_are_named_in_order() -> None:
    kinds = ["attention", "dense", "experts", "merge", "route"]
    before, after = (
        tuple(
            Span(0, "compute", kind, 0, layer, layer * 100, layer * 100 + took)
            for layer, kind in enumerate([*kinds, "wait_peers"])
        )
        for took in (50, 60)
    )
    words = compare(replace(DWDP, spans=after), replace(DEP, spans=before)).words
    assert words.endswith(
        "attention 20 % slower; dense layer 20 % slower; experts 20 % slower; merge 20 % slower; route 20 % slower"
    )


def test_differences_of_states_explain_the_difference_of_steps() -> None:
    found = compare(DWDP, DEP)
    assert set(found.state_ms) == set(STATES)
    assert sum(found.state_ms.values()) == pytest.approx(found.run.step_ms - found.baseline.step_ms)
    assert found.kind_ms == pytest.approx(
        {"attention": 0.03, "dispatch": -1.0, "experts": 0.0, "pull": 1.5, "wait_peers": -2.0}
    )


def test_kind_times_are_per_step_and_rank() -> None:
    twice = replace(DEP, tokens=(800, 800), steps=2)
    assert kind_times_ms(twice)["experts"] == 1.0


def test_a_run_against_itself_has_nothing_to_tell() -> None:
    assert compare(DEP, DEP).words == "DEP is 1.00 x DEP"


def test_unlike_runs_say_so() -> None:
    words = compare(replace(DWDP, provenance="measured", tokens=(900,)), DEP).words
    assert words.startswith("DWDP (measured) is 1.64 x DEP (simulated)")
    assert words.endswith("(not the same batches)")


def test_an_empty_baseline_is_refused() -> None:
    with pytest.raises(ValueError, match="baseline: the dep timeline has no tokens or no spans"):
        compare(DWDP, replace(DEP, spans=()))
