"""Batches of each kind of workload."""

from __future__ import annotations

import statistics
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenarios import workloads

from dwdp_lab.scenario import (
    Batches,
    Chunk,
    CvWorkload,
    ExplicitWorkload,
    IslWorkload,
    Scenario,
    ScenarioError,
    TraceWorkload,
)
from dwdp_lab.scenario.workload import MAX_CV


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 6).flatmap(lambda ranks: st.tuples(st.just(ranks), workloads(ranks))))
def test_every_workload_gives_every_rank_the_same_number_of_steps(given: tuple[int, dict[str, Any]]) -> None:
    ranks, workload = given
    batches = Scenario.create(group={"ranks": ranks}, workload=workload).batches
    assert batches.ranks == ranks
    assert batches.steps >= 1
    assert all(len(steps) == batches.steps for steps in batches.by_rank)
    chunks = [chunk for steps in batches.by_rank for batch in steps for chunk in batch]
    assert chunks
    assert all(chunk.new_tokens >= 1 and chunk.context_tokens >= 0 for chunk in chunks)


@given(st.integers(2, 64), st.floats(0, MAX_CV), st.integers(1000, 100_000), st.integers(1, 5), st.integers(0, 9))
@settings(deadline=None)
def test_the_cv_is_met_in_every_step(ranks: int, cv: float, tokens: int, steps: int, seed: int) -> None:
    workload = CvWorkload(tokens_per_rank=tokens, cv=cv, isl_tokens=512, steps=steps, seed=seed)
    batches = workload.batches(ranks)
    assert batches.steps == steps
    for step in range(steps):
        # each rank's tokens are rounded by at most half a token
        assert batches.cv(step) == pytest.approx(cv, abs=2 / tokens)
        mean = statistics.fmean(batches.tokens(rank, step) for rank in range(ranks))
        assert mean == pytest.approx(tokens, abs=0.5)
    assert batches.mean_cv() == pytest.approx(cv, abs=2 / tokens)


def test_cv_zero_gives_all_ranks_the_same() -> None:
    batches = CvWorkload(cv=0.0, steps=3).batches(4)
    assert {batches.tokens(rank, step) for rank in range(4) for step in range(3)} == {1024}
    assert len({tuple((c.context_tokens, c.new_tokens) for c in steps[0]) for steps in batches.by_rank}) == 1


def test_the_heavy_rank_changes_from_step_to_step() -> None:
    batches = CvWorkload(cv=0.3, steps=40).batches(4)
    heaviest = {max(range(4), key=lambda rank: batches.tokens(rank, step)) for step in range(40)}
    assert heaviest == {0, 1, 2, 3}


def test_one_rank_has_no_imbalance() -> None:
    batches = CvWorkload(cv=0.5).batches(1)
    assert batches.tokens(0) == 1024
    assert batches.mean_cv() == 0


@given(st.floats(0, 0.9))
def test_a_prefix_hit_keeps_the_cvs_new_tokens_and_gives_them_context(hit: float) -> None:
    chunk = CvWorkload(tokens_per_rank=256, cv=0, prefix_hit=hit).batches(2).by_rank[0][0][0]
    assert chunk.new_tokens == 256
    assert chunk.context_tokens / (chunk.context_tokens + 256) == pytest.approx(hit, abs=0.01)


def test_explicit_lengths_are_one_pass() -> None:
    batches = ExplicitWorkload(lengths=[[100, 50], []], prefix_hit=0.5).batches(2)
    assert batches == Batches((((Chunk(0, 50, 50), Chunk(1, 25, 25)),), ((),)))
    assert (batches.tokens(0), batches.tokens(1), batches.cv(0)) == (75, 0, 1.0)


def test_explicit_lengths_must_match_the_group() -> None:
    with pytest.raises(ScenarioError, match="needs one list of lengths per rank, so 3"):
        ExplicitWorkload(lengths=[[1], [2]]).batches(3)


@given(st.integers(1, 3000), st.floats(0.05, 1), st.integers(64, 4096), st.integers(1, 6), st.integers(0, 99))
@settings(deadline=None)
def test_isl_passes_are_full_and_within_the_ratio(isl: int, ratio: float, mnt: int, steps: int, seed: int) -> None:
    workload = IslWorkload(isl_tokens=isl, isl_ratio=ratio, mnt_tokens=mnt, steps=steps, seed=seed)
    batches = workload.batches(3)
    assert batches.steps == steps
    totals: dict[int, int] = {}
    for rank in range(3):
        for step in range(steps):
            assert batches.tokens(rank, step) <= mnt
            # the pass ended because one more request did not fit
            assert batches.tokens(rank, step) + isl > mnt
            for chunk in batches.by_rank[rank][step]:
                totals[chunk.request] = max(totals.get(chunk.request, 0), chunk.context_tokens + chunk.new_tokens)
    assert all(total <= isl for total in totals.values())
    assert workload.batches(3) == batches, "the same seed gives the same batches"


def test_isl_with_a_standard_deviation() -> None:
    workload = IslWorkload(isl_tokens=1000, isl_std_tokens=200, mnt_tokens=10_000, steps=100)
    batches = workload.batches(1)
    whole = [c.new_tokens for batch in batches.by_rank[0] for c in batch]
    assert len(whole) > 500
    assert statistics.fmean(whole) == pytest.approx(1000, rel=0.03)
    assert statistics.pstdev(whole) == pytest.approx(200, rel=0.1)


def test_seeds_differ() -> None:
    assert len({IslWorkload(isl_ratio=0.5, seed=seed).batches(2) for seed in range(5)}) == 5


def test_traces_are_dealt_and_packed() -> None:
    batches = TraceWorkload(requests=10, divide_by=16, mnt_tokens=256).batches(3)
    numbers = [sorted({c.request for batch in steps for c in batch}) for steps in batches.by_rank]
    assert numbers == [[0, 3, 6, 9], [1, 4, 7], [2, 5, 8]]
    assert all(batches.tokens(rank, step) <= 256 for rank in range(3) for step in range(batches.steps))
