"""Pulling only the experts that tokens are routed to: which bytes, how many on average, and when."""

from __future__ import annotations

import random

import pytest
from any_scenario import scenarios
from hypothesis import given, settings
from hypothesis import strategies as st

from dwdp_lab.program.build import build
from dwdp_lab.program.checker import check
from dwdp_lab.program.placement import placement
from dwdp_lab.program.pull_plan import pull_of, pull_plan, routed_pull_of
from dwdp_lab.scenario.scenario import Scenario


@given(scenarios(names=("dwdp",)), st.sets(st.integers(0, 11)))
def test_a_plan_of_wanted_experts_is_the_whole_plan_without_the_others(scenario: Scenario, wanted: set[int]) -> None:
    where = placement(scenario)
    for rank in range(scenario.ranks):
        whole, some = pull_plan(scenario, rank), pull_plan(scenario, rank, wanted)
        assert (some.slot, some.shard) == (whole.slot, whole.shard)
        remote = {expert for _, share in where.pulled(rank) for expert in share}
        size = sum(size for _, size in whole.slot.parameters)
        assert sum(piece.nbytes for piece in some.slices) == len(wanted & remote) * size
        assert pull_plan(scenario, rank, remote | wanted) == whole

        def moves(plan: object) -> set[tuple[int, int, int]]:
            """Every byte's (peer, place there, place here), a few of each slice."""
            return {
                (piece.peer, piece.source_offset + at, piece.slot_offset + at)
                for piece in plan.slices  # type: ignore[attr-defined]
                for at in {0, piece.nbytes // 2, piece.nbytes - 1}
            }

        distances = {(peer, target - source) for peer, source, target in moves(whole)}
        assert {(peer, target - source) for peer, source, target in moves(some)} <= distances


@given(scenarios(names=("dwdp",)))
def test_when_all_are_visited_it_is_the_whole_pull_and_when_none_nothing(scenario: Scenario) -> None:
    experts = scenario.model.experts
    for rank in range(scenario.ranks):
        whole, routed = pull_of(scenario, rank), routed_pull_of(scenario, rank, [1.0] * experts)
        assert (routed.stages, routed.nbytes, routed.routed) == (whole.stages, whole.nbytes, True)
        assert routed.copies <= whole.copies
        if scenario.strategy.slice_bytes is None:
            assert routed.copies == whole.copies
        assert routed_pull_of(scenario, rank, [0.0] * experts)[:2] == ((), 0.0)


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 5), st.lists(st.sampled_from([0.1, 0.5, 0.9]), min_size=12, max_size=12), st.integers(0, 9))
def test_bytes_and_copies_are_those_of_drawn_plans_on_average(ranks: int, visited: list[float], seed: int) -> None:
    scenario = Scenario.create(model={"preset": "tiny", "experts": 12}, group={"ranks": ranks})
    draw = random.Random(seed)
    drawn = [
        pull_plan(scenario, 0, {expert for expert, chance in enumerate(visited) if draw.random() < chance}).slices
        for _ in range(400)
    ]
    expected = routed_pull_of(scenario, 0, visited)
    nbytes = sum(piece.nbytes for slices in drawn for piece in slices) / len(drawn)
    assert expected.nbytes == pytest.approx(nbytes, rel=0.15)
    assert expected.copies == pytest.approx(sum(map(len, drawn)) / len(drawn), rel=0.15)


def test_one_token_pulls_its_experts_and_many_pull_all() -> None:
    scenario = Scenario.create(
        model="tiny", group={"ranks": 4}, strategy={"pull": "routed"}, workload={"cv": 0.0, "tokens_per_rank": 1}
    )
    expert = scenario.model.expert_bytes

    def pulled(tokens: int) -> float:
        one = scenario.replace(**{"workload.tokens_per_rank": tokens})
        return next(op.pull.nbytes for op in build(one)[0].ops if op.pull is not None)

    assert pulled(1) == pytest.approx(2 * 6 / 8 * expert)  # top 2, six of eight experts are remote
    assert pulled(1) < pulled(2) < pulled(8) < 6 * expert
    assert pulled(500) == pytest.approx(6 * expert)


def test_it_waits_for_the_layers_routing_and_the_checker_knows_why() -> None:
    scenario = Scenario.create(model="tiny", strategy={"pull": "routed", "slots": 2}, workload={"steps": 2})
    programs = build(scenario)
    assert check(programs, scenario) == []
    for program in programs:
        pulls = [op for op in program.ops if op.kind == "pull"]
        assert len(pulls) == 2 * scenario.model.layers
        assert all("routed" in op.waits for op in pulls)
    early = [
        type(program)(
            program.rank,
            tuple(
                op._replace(waits=tuple(name for name in op.waits if name != "routed")) if op.kind == "pull" else op
                for op in program.ops
            ),
        )
        for program in programs
    ]
    assert {hazard.fault for hazard in check(early, scenario)} == {"early read"}
