"""Micro-batches: every request of every rank in one of them, whole, in order."""

from __future__ import annotations

from any_scenario import scenarios
from hypothesis import given

from dwdp_lab.program.micro_batches import micro_batches
from dwdp_lab.scenario.scenario import Scenario


@given(scenarios(("pipeline",)))
def test_every_request_is_in_one_micro_batch(scenario: Scenario) -> None:
    for step in range(scenario.batches.steps):
        parts = micro_batches(scenario, step)
        for rank, steps in enumerate(scenario.batches.by_rank):
            mine = [part for part in parts if part.rank == rank]
            assert tuple(chunk for part in mine for chunk in part.batch) == steps[step]
            assert len(mine) <= min(scenario.strategy.micro_batches, len(steps[step]))
            done = 0
            for part in mine:
                assert part.first_token == done
                assert part.tokens > 0
                done += part.tokens
        assert [part.rank for part in parts] == sorted(part.rank for part in parts)


def test_equal_requests_are_dealt_out_evenly() -> None:
    workload = {"kind": "explicit", "lengths": [[8] * 12, [5, 5, 30, 5, 5]]}
    scenario = Scenario.create(workload=workload, strategy={"name": "pipeline", "micro_batches": 4})
    tokens = [[part.tokens for part in micro_batches(scenario, 0) if part.rank == rank] for rank in range(2)]
    assert tokens == [[24, 24, 24, 24], [10, 30, 10]]  # a long request is a part of its own
