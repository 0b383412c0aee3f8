"""The order of a program in words, and a timing that lets a race happen."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator

import pytest
from any_scenario import scenarios
from hypothesis import given, settings

from dwdp_lab.program.build import build
from dwdp_lab.program.checker import check_program
from dwdp_lab.program.operation import Op, Program
from dwdp_lab.program.rank_view import RankView
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.teach import races
from dwdp_lab.teach.happens_before import bad_timing, conflict, predecessors, why_before
from dwdp_lab.teach.race_picture import race_picture
from dwdp_lab.teach.schedule_checks import operations, small

BUGS = [races.other_slot, races.too_early, races.new_step, races.last_layer]


def racy(bug: Callable[[RankView], Iterator[Op]]) -> tuple[Op, ...]:
    ops = operations(bug, small(4, 2, 2))
    assert not isinstance(ops, str)
    return ops


@pytest.mark.parametrize("bug", BUGS)
def test_the_checker_and_the_chains_agree_on_what_races(bug: Callable[[RankView], Iterator[Op]]) -> None:
    ops = racy(bug)
    pairs = [conflict(ops, hazard) for hazard in check_program(Program(0, ops)) if hazard.fault == "overwrite"]
    assert pairs
    for pair in pairs:
        assert pair is not None
        assert why_before(ops, *pair) is None
        assert ops[pair[0]].slot == ops[pair[1]].slot


@pytest.mark.parametrize("bug", BUGS)
def test_in_the_picture_the_two_meet(bug: Callable[[RankView], Iterator[Op]]) -> None:
    ops = racy(bug)
    pair = next(conflict(ops, h) for h in check_program(Program(0, ops)) if h.fault == "overwrite")
    assert pair is not None
    times = bad_timing(ops, *pair)
    (first_start, first_end), (later_start, later_end) = (times[index] for index in pair)
    assert max(first_start, later_start) < min(first_end, later_end)
    for index, needs in enumerate(predecessors(ops)):  # and nothing else breaks the program's order
        assert all(times[source][1] <= times[index][0] for source, _ in needs)
    ElementTree.fromstring(race_picture(ops, *pair, title="a < b").svg)


@settings(max_examples=50, deadline=None)
@given(scenarios())
def test_clean_programs_order_every_pull_after_the_readers_of_its_slot(scenario: Scenario) -> None:
    ops = build(scenario.with_strategy("dwdp"))[0].ops[:60]
    reader: dict[int | None, int] = {}
    for index, op in enumerate(ops):
        if op.kind == "pull" and op.slot in reader:
            assert why_before(ops, reader[op.slot], index)
        if op.kind == "experts":
            reader[op.slot] = index


def test_the_chain_is_told_in_words() -> None:
    ops = build(Scenario.create(model={"preset": "tiny", "layers": 3}))[0].ops
    places = {(op.kind, op.layer): index for index, op in enumerate(ops)}
    chain = why_before(ops, places["experts", 0], places["pull", 2])
    assert chain == ["the pull of layer 2, step 0 waits for 'consumed 0'"]
    assert why_before(ops, places["pull", 2], places["experts", 0]) is None
