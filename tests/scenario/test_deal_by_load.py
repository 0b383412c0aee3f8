"""Requests dealt to ranks by load, as the scheduler of data-parallel attention does."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from dwdp_lab.scenario.packing import Request, deal_by_load
from dwdp_lab.scenario.scenario import Scenario


@given(
    st.integers(1, 5),
    st.integers(1, 4),
    st.lists(st.integers(1, 1000), min_size=60, max_size=60),
)
def test_each_window_is_dealt_evenly_and_longest_first(ranks: int, per_rank: int, lengths: list[int]) -> None:
    window = ranks * per_rank
    stream = (Request(number, length, 0) for number, length in enumerate(itertools.cycle(lengths)))
    queues = [list(itertools.islice(queue, 3 * per_rank)) for queue in deal_by_load(stream, ranks, per_rank)]
    dealt = sorted(request.number for queue in queues for request in queue)
    assert dealt == list(range(3 * window))  # nothing lost, nothing twice
    load = [0] * ranks
    for start in range(0, 3 * per_rank, per_rank):
        part = [queue[start : start + per_rank] for queue in queues]
        assert {request.number // window for requests in part for request in requests} == {start // per_rank}
        for requests in part:
            tokens = [request.tokens for request in requests]
            assert tokens == sorted(tokens, reverse=True)
        load = [before + sum(r.tokens for r in requests) for before, requests in zip(load, part, strict=True)]
        assert max(load) - min(load) <= 1000  # no rank gets ahead by more than one request


def test_a_scheduler_balances_passes_better_than_turns_do() -> None:
    scenario = Scenario.create(
        group={"ranks": 4},
        workload={"kind": "isl", "isl_tokens": 8192, "isl_ratio": 0.8, "mnt_tokens": 32768, "steps": 32},
    )
    dealt = scenario.replace(**{"workload.assign": "least_loaded"})
    assert dealt.batches.mean_cv() < 0.5 * scenario.batches.mean_cv()
    tokens = [sum(s.batches.tokens(rank) for rank in range(4)) for s in (scenario, dealt)]
    assert abs(tokens[0] / tokens[1] - 1) < 0.01


def test_cached_tokens_are_no_load() -> None:
    requests = iter([Request(0, 100, 90), Request(1, 100, 0), Request(2, 50, 0), Request(3, 40, 0)])
    first, second = (next(queue) for queue in deal_by_load(requests, 2, 2))
    assert (first.number, second.number) == (1, 2)  # by what is left to compute: 100, 50, 40, 10
