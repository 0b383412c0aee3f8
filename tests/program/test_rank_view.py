"""Ranks, steps and layers share what is alike: each operation still has what it would have alone."""

from __future__ import annotations

import pytest
from any_scenario import scenarios
from hypothesis import given, settings
from hypothesis import strategies as st

from dwdp_lab.program.build import build
from dwdp_lab.program.micro_batches import micro_batches
from dwdp_lab.program.operation import Collective, Op, Pull, Work
from dwdp_lab.program.pull_plan import pull_of, routed_pull_of
from dwdp_lab.program.work import WorkModel
from dwdp_lab.scenario.scenario import Scenario


def alone(op: Op, rank: int, scenario: Scenario) -> tuple[tuple[Work, ...], Pull | None, Collective | None]:
    """Work, pull and collective of an operation as if it were the only one."""
    amounts, step, layer = WorkModel(scenario), op.step, op.layer
    batch = scenario.batches.by_rank[rank][step]
    if op.micro is not None:
        batch = micro_batches(scenario, step)[op.micro].batch
    tokens = sum(chunk.new_tokens for chunk in batch)
    match op.kind:
        case "attention":
            return amounts.attention(batch, layer), None, None
        case "dense":
            return amounts.dense(tokens), None, None
        case "route":
            return amounts.route(tokens), None, None
        case "experts" if scenario.strategy.name == "dep":
            return amounts.computed_experts(rank, step, layer), None, None
        case "experts":
            return amounts.experts(tokens), None, None
        case "merge":
            return amounts.merge(), None, None
        case "pull" if scenario.strategy.pull == "routed":
            return (), routed_pull_of(scenario, rank, amounts.visited(tokens, layer)), None
        case "pull":
            return (), pull_of(scenario, rank), None
        case "gather_weights":
            return (), None, amounts.gather_weights(rank)
        case "dispatch":
            return (), None, amounts.dispatch(rank, step, layer)
        case "combine":
            return (), None, amounts.combine(rank, step, layer)
        case "gather_tokens":
            return (), None, amounts.gather_tokens(rank, step)
        case "reduce_tokens":
            return (), None, amounts.reduce_tokens(rank, step)
        case "send":
            assert op.peer is not None
            return (), None, amounts.message(op.peer, tokens)
        case "recv":
            return (), None, None
    raise AssertionError(op)


@pytest.mark.parametrize("pull", ["all", "routed"])
@settings(deadline=None, max_examples=40)
@given(scenario=scenarios(names=("dwdp",)), skew=st.sampled_from([0.0, 1.0]))
def test_every_operation_of_dwdp_has_what_it_would_have_alone(scenario: Scenario, pull: str, skew: float) -> None:
    _each_alone(scenario.replace(**{"strategy.pull": pull, "workload.router_skew": skew}))


@settings(deadline=None, max_examples=80)
@given(scenarios(names=("dep", "weight_gather", "pipeline", "replicated")), st.sampled_from([0.0, 1.0]))
def test_every_operation_has_what_it_would_have_alone(scenario: Scenario, skew: float) -> None:
    _each_alone(scenario.replace(**{"workload.router_skew": skew}))


def _each_alone(scenario: Scenario) -> None:
    for program in build(scenario):
        for op in program.ops:
            assert (op.work, op.pull, op.collective) == alone(op, program.rank, scenario)
