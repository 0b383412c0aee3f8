"""Serving a finite run: every request once, in order, within the budget, and no faster than the servers are."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwdp_lab.simulate.cost import CostModel
from dwdp_lab.simulate.hardware import load_hardware
from dwdp_lab.simulate.outcome import outcome
from dwdp_lab.simulate.paper_candidates import host_ms_needed, published_cells
from dwdp_lab.simulate.paper_data import paper_scenario
from dwdp_lab.simulate.pass_times import PassTimes
from dwdp_lab.simulate.physics import REALISTIC
from dwdp_lab.simulate.serving import Budget, Client, Pass, Waiting, serve_in_turn, serve_together, take

LENGTHS = st.lists(st.integers(1, 50), min_size=1, max_size=60).map(tuple)
BUDGETS = st.builds(Budget, st.integers(1, 100), st.integers(1, 8))


@given(LENGTHS, BUDGETS)
def test_a_pass_takes_whole_requests_in_order_as_long_as_they_fit(lengths: Pass, budget: Budget) -> None:
    queue, seen = deque(Waiting(tokens, 0.0) for tokens in lengths), []
    while queue:
        taken = [one.tokens for one in take(queue, budget)]
        assert 1 <= len(taken) <= budget.requests
        assert sum(taken) <= budget.tokens or len(taken) == 1
        if queue and len(taken) < budget.requests:
            assert sum(taken) + queue[0].tokens > budget.tokens
        seen += taken
    assert tuple(seen) == lengths


@given(LENGTHS, BUDGETS, st.integers(1, 5), st.integers(1, 40))
def test_every_request_is_served_once_and_servers_are_never_faster_than_they_are(
    lengths: Pass, budget: Budget, ranks: int, in_flight: int
) -> None:
    client, done = Client(lengths, in_flight), []

    def took_us(one: Pass) -> float:
        done.extend(one)
        return 3.0 + 2.0 * sum(one)

    apart = serve_in_turn(client, budget, [took_us] * ranks)
    assert sorted(done) == sorted(lengths)
    assert apart.tokens_per_s <= 1e6 / 2.0
    done.clear()

    def together_us(passes: Sequence[Pass]) -> float:
        for one in passes:
            done.extend(one)
        return 3.0 + 2.0 * max(map(sum, passes))

    together = serve_together(client, budget, ranks, together_us)
    assert sorted(done) == sorted(lengths)
    assert together.tokens_per_s <= 1e6 / 2.0
    assert min(apart.median_ttft_ms, together.median_ttft_ms) >= (3.0 + 2.0 * min(lengths)) / 1e3


@given(LENGTHS, st.integers(1, 40))
def test_one_server_is_the_same_either_way(lengths: Pass, in_flight: int) -> None:
    client, budget = Client(lengths, in_flight), Budget(64, 4)
    apart = serve_in_turn(client, budget, [lambda one: 5.0 + sum(one)])
    # one server in either form; only the longest-first dealing differs, which equal lengths do not show
    equal = Client((lengths[0],) * len(lengths), in_flight)
    assert serve_in_turn(equal, budget, [lambda one: 5.0 + sum(one)]) == serve_together(
        equal, budget, 1, lambda passes: 5.0 + sum(passes[0])
    )
    assert apart.mean_ttft_ms > 0


def test_requests_that_come_together_are_dealt_by_number_then_by_tokens() -> None:
    """Five at once to two ranks: three at most for each, the longest first to who has the fewest tokens."""
    seen: list[Sequence[Pass]] = []

    def took_us(passes: Sequence[Pass]) -> float:
        seen.append(passes)
        return 1.0

    serve_together(Client((1, 90, 2, 3, 2), 5), Budget(1000, 8), 2, took_us)
    assert seen == [[(90, 1), (3, 2, 2)]]


def test_littles_law_holds_while_the_client_keeps_its_requests_in_flight() -> None:
    client, budget = Client((10,) * 4000, 40), Budget(20, 4)
    served = serve_in_turn(client, budget, [lambda one: float(sum(one))] * 4)
    requests_per_ms = 4 * served.tokens_per_s / 10 / 1e3
    assert requests_per_ms * served.mean_ttft_ms == pytest.approx(40, rel=0.02)


def test_dealing_in_turn_ties_all_servers_to_the_slowest() -> None:
    client, budget = Client((10,) * 4000, 40), Budget(20, 4)
    servers = [lambda one, speed=speed: sum(one) / speed for speed in (1.0, 1.0, 1.0, 0.8)]
    served = serve_in_turn(client, budget, servers)
    assert served.tokens_per_s == pytest.approx(0.8e6, rel=0.02)
    assert served.median_ttft_ms < 0.7 * served.mean_ttft_ms  # most requests are with servers that hardly queue


@settings(deadline=None, max_examples=10)
@given(st.sampled_from(("dep", "dwdp")), st.sampled_from((0.5, 0.8, 1.0)))
def test_pass_times_give_back_the_step_they_were_taken_from(strategy: str, ratio: float) -> None:
    knobs = {"weight_view": "split", "peer_order": "ascending"}
    scenario = paper_scenario(strategy, {"isl_tokens": 8192, "isl_ratio": ratio, "steps": 4}, knobs)  # type: ignore[arg-type]
    hardware = load_hardware("gb200")
    step_us = outcome(scenario, hardware, REALISTIC).metrics.step_ms * 1e3
    times = PassTimes(scenario, CostModel.of(hardware, None, REALISTIC), step_us)
    by_rank = [[tuple(c.new_tokens for c in batch) for batch in batches] for batches in scenario.batches.by_rank]
    if strategy == "dep":
        found = [times.dep_us(passes) for passes in zip(*by_rank, strict=True)]
    else:
        found = [times.dwdp_us(one) for passes in by_rank for one in passes]
    assert sum(found) / len(found) == pytest.approx(step_us, rel=1e-6)


def test_the_cells_that_candidates_are_measured_by_are_the_published_ones() -> None:
    assert len(published_cells()) == 13
    assert all(0.9 < cell.paper < 1.2 for cell in published_cells())


@given(st.floats(100, 2000), st.floats(1.01, 1.3), st.floats(0.1, 0.9))
def test_host_time_brings_two_passes_together(dwdp_ms: float, ratio: float, nearer: float) -> None:
    dep_ms, wanted = ratio * dwdp_ms, 1.0 + (ratio - 1.0) * nearer
    host_ms = host_ms_needed(dep_ms, dwdp_ms, wanted)
    assert (dep_ms + host_ms) / (dwdp_ms + host_ms) == pytest.approx(wanted)
