"""What transfers do to compute beside them: in proportion to what moves, and processors only to collectives."""

from __future__ import annotations

from dataclasses import replace

import pytest
from any_scenario import scenarios
from hypothesis import given, settings
from hypothesis import strategies as st

from dwdp_lab.program.build import build
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.cost import CostModel
from dwdp_lab.simulate.hardware import load_hardware
from dwdp_lab.simulate.machine import run_programs
from dwdp_lab.simulate.outcome import outcome
from dwdp_lab.simulate.physics import BOUND, REALISTIC, Physics

ALONE = replace(REALISTIC, hbm_traffic=False, power=False, collective_sms=False)
FITTED = st.sampled_from(("h100", "gb200", "b200", "h200"))


@settings(deadline=None, max_examples=60)
@given(scenarios(names=("dwdp",)), FITTED, st.floats(1e-4, 3.0))
def test_a_link_can_take_no_more_from_compute_than_its_bytes_allow(
    scenario: Scenario, profile: str, share_of_link: float
) -> None:
    """A trickle disturbs next to nothing: what is stolen is at most a unit's loss times what moves over the rank."""
    hardware = load_hardware(profile)
    reached = hardware.reached
    assert reached is not None
    cost = CostModel.of(hardware, hardware.link_gbps.value * share_of_link, REALISTIC)
    programs = build(scenario)
    spans = run_programs(programs, cost)
    worst = max(1.0 - 1.0 / number.value for number in reached.copy_slowdown.values())
    for program in programs:
        own = [op for op in program.ops if op.lane == "compute"]
        took = sum(span.duration_us for span in spans if span.rank == program.rank and span.lane == "compute")
        alone = sum(cost.work_us(op.work, op.kind) for op in own)
        moving = max((span.end_us for span in spans if span.kind == "pull"), default=0.0)
        assert took - alone <= worst * min(1.0, share_of_link) * moving * (1 + 1e-6) + 1e-6


@given(FITTED, st.floats(1e-3, 1.0), st.booleans())
def test_the_slowdown_falls_with_the_links_speed_and_is_the_profiles_at_its_own(
    profile: str, share_of_link: float, efficient: bool
) -> None:
    hardware = load_hardware(profile)
    reached = hardware.reached
    assert reached is not None
    physics = Physics(efficiency=efficient, activations=True, hbm_traffic=True, power=True)
    scenario = Scenario.create(model="qwen3-30b-a3b", workload={"cv": 0.0}, strategy={"name": "replicated"})
    work = build(scenario)[0].ops[0].work
    assert work
    own, slower = (
        CostModel.of(hardware, gbps, physics).pieces(work) for gbps in (None, hardware.link_gbps.value * share_of_link)
    )
    for whole, less in zip(own, slower, strict=True):
        measured = reached.copy_slowdown[whole.unit].value
        assert whole.slowdown == pytest.approx(measured)
        assert 1.0 - 1.0 / less.slowdown == pytest.approx((1.0 - 1.0 / measured) * share_of_link, abs=1e-12)


@settings(deadline=None, max_examples=40)
@given(scenarios(), FITTED)
def test_processors_are_taken_by_collectives_beside_compute_and_by_nothing_else(
    scenario: Scenario, profile: str
) -> None:
    """All-gathers of weights run beside compute, and tensor's last all-reduce beside the next step; no others do."""
    hardware = load_hardware(profile)
    without, with_them = (
        outcome(scenario, hardware, physics).unit_ms for physics in (ALONE, replace(ALONE, collective_sms=True))
    )
    for unit, took_ms in without.items():
        if scenario.strategy.name in ("weight_gather", "tensor") and unit in ("gemm", "grouped_gemm", "attention"):
            assert took_ms * (1 - 1e-9) <= with_them[unit] <= took_ms / (1 - 20 / 132) * (1 + 1e-3) + 1e-9
        else:
            assert with_them[unit] == pytest.approx(took_ms, rel=1e-9, abs=1e-12)


def test_an_all_gather_that_runs_all_the_time_takes_its_processors_all_the_time() -> None:
    scenario = Scenario.create(
        model={"preset": "qwen3-30b-a3b", "layers": 12},
        group={"ranks": 4},
        strategy={"name": "weight_gather"},
        workload={"tokens_per_rank": 4096, "cv": 0.0},
    )
    hardware = load_hardware("h100")
    physics = Physics(efficiency=True, collective_sms=True)
    alone = outcome(scenario, hardware, replace(physics, collective_sms=False))
    found = outcome(scenario, hardware, physics)
    assert found.unit_ms["grouped_gemm"] > 1.1 * alone.unit_ms["grouped_gemm"]
    assert outcome(scenario, hardware, BOUND).metrics.step_ms <= alone.metrics.step_ms


@settings(deadline=None, max_examples=30)
@given(scenarios(names=("dep", "dwdp")), st.integers(1, 4), st.floats(0.6, 2.0))
def test_hot_experts_hurt_dep_and_not_dwdp(scenario: Scenario, experts_per_rank: int, skew: float) -> None:
    """Uneven routing moves rows between experts: under DWDP they stay on their rank, under DEP one rank gets more."""
    ranks = scenario.ranks
    changes = {"model.experts": ranks * experts_per_rank, "model.top_k": 1, "group.local_experts": None}
    even, hot = (scenario.replace(**changes, **{"workload.router_skew": one}) for one in (0.0, skew))

    def flops(one: Scenario) -> list[list[float]]:
        """Of the routed experts: per operation, by rank."""
        by_rank = [
            [
                sum(work.flops for work in op.work if work.unit == "grouped_gemm")
                for op in program.ops
                if op.kind == "experts"
            ]
            for program in build(one)
        ]
        return [list(of_ranks) for of_ranks in zip(*by_rank, strict=scenario.strategy.name == "dep")]

    for before, after in zip(flops(even), flops(hot), strict=True):
        if scenario.strategy.name == "dwdp":
            assert after == pytest.approx(before)
        else:
            assert sum(after) == pytest.approx(sum(before))
            assert max(after) >= max(before) * (1 - 1e-9)
