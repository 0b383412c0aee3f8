"""Routed pulls in virtual time: what they save for few tokens, and what they cost for many."""

from __future__ import annotations

import itertools

import pytest

from dwdp_lab.program.pull_plan import pull_of
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.hardware import load_hardware
from dwdp_lab.simulate.outcome import outcome
from dwdp_lab.simulate.physics import BOUND, REALISTIC
from dwdp_lab.simulate.routed_pulls import over_batches
from dwdp_lab.simulate.run import run_sim

QWEN = Scenario.create(model={"preset": "qwen3-30b-a3b", "layers": 4}, group={"ranks": 2})


def test_few_tokens_pull_few_experts_and_many_pull_all() -> None:
    rows = over_batches(QWEN, tokens=(1, 4, 64, 4096, 65536))
    shares = [row.pulled_share for row in rows]
    assert shares[0] == pytest.approx(8 / 128)  # one token, top 8 of 128
    assert all(less <= more for less, more in itertools.pairwise(shares))
    assert shares[-1] == pytest.approx(1.0, abs=1e-9)


def test_one_token_waits_for_its_own_experts_alone() -> None:
    """Two ranks: every layer's step is longer by the pull of as many experts as the other rank has of its eight."""
    row = over_batches(QWEN, tokens=(1,))[0]
    resident = outcome(
        QWEN.with_strategy("replicated").replace(workload={"cv": 0.0, "tokens_per_rank": 1, "isl_tokens": 1}),
        load_hardware("h100"),
        BOUND,
    ).metrics.step_ms
    pulls_ms = 4 * 4 * QWEN.model.expert_bytes / 450e6
    assert row.routed_ms == pytest.approx(resident + pulls_ms, rel=1e-9)
    assert row.routed_ms < row.all_ms
    assert row.best == "dep"  # which sends one token instead of any weight


def test_for_large_batches_routed_pulls_are_pulls_that_nothing_hides() -> None:
    """All experts are pulled, in every layer after the routing: the step without overlap."""
    row = over_batches(QWEN, tokens=(32768,), physics=REALISTIC)[0]
    assert row.all_ms < row.routed_ms
    long = QWEN.replace(workload={"cv": 0.0, "tokens_per_rank": 32768, "isl_tokens": 256})
    exposed = long.replace(**{"strategy.overlap": False})
    spans = run_sim(exposed, physics=REALISTIC).spans
    routed = run_sim(long.replace(**{"strategy.pull": "routed"}), physics=REALISTIC).spans
    assert len(routed) == len(spans)
    assert max(s.end_us for s in routed) == pytest.approx(max(s.end_us for s in spans), rel=1e-9)
    assert sum(s.nbytes for s in routed if s.kind == "pull") == pytest.approx(8 * pull_of(long, 0).nbytes)


def test_requests_are_as_long_as_the_scenarios_and_no_longer_than_the_batch() -> None:
    lengths = [[3000, 1000], [2000, 2000]]
    scenario = QWEN.replace(workload={"kind": "explicit", "lengths": lengths})
    for tokens, isl_tokens in ((8192, 2000), (512, 512)):
        workload = {"cv": 0.0, "tokens_per_rank": tokens, "isl_tokens": isl_tokens}
        row = over_batches(scenario, tokens=(tokens,))[0]
        dep = outcome(scenario.replace(workload=workload).with_strategy("dep"), load_hardware("h100"), BOUND)
        assert row.dep_ms == dep.metrics.step_ms


def test_hot_experts_leave_more_to_spare() -> None:
    even, skewed = (
        over_batches(QWEN.replace(**{"workload.router_skew": skew}), tokens=(16,))[0].pulled_share
        for skew in (0.0, 1.5)
    )
    assert skewed < even
