"""Experts in e4m3 with a scale per output channel: bytes of plans and ledger to the last one, and what is computed."""

from __future__ import annotations

from typing import Any

import pytest
from any_scenario import scenarios
from hypothesis import given
from hypothesis import strategies as st

from dwdp_lab.program.memory import ledger
from dwdp_lab.program.placement import placement
from dwdp_lab.program.pull_plan import parameter_bytes, pull_of, pull_plan
from dwdp_lab.program.work import WorkModel
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.shares import narrowed, share_of

CHANNEL = {"model.expert_dtype": "fp8_channel"}


def packed(hidden: int, inner: int) -> int:
    """Bytes of w13 [2I, H], its 2I scales, w2 [H, I] and its H scales."""
    return 2 * inner * hidden + 4 * 2 * inner + hidden * inner + 4 * hidden


def qwen(**changes: Any) -> Scenario:
    workload = {"tokens_per_rank": 16384, "cv": 0.0, "isl_tokens": 4096}
    return Scenario.create(model="qwen3-30b-a3b", group={"ranks": 4}, workload=workload).replace(**CHANNEL | changes)


@given(scenarios(names=("dwdp",)))
def test_plans_pull_exactly_the_bytes_of_the_experts_a_rank_lacks(scenario: Scenario) -> None:
    scenario = scenario.replace(**CHANNEL)
    model, where = scenario.model, placement(scenario)
    each = packed(model.hidden, model.expert_intermediate)
    assert sum(size for _, size in parameter_bytes(model)) == model.expert_bytes == each
    for rank in range(scenario.ranks):
        lacking = model.experts - len(where.local(rank))
        plan = pull_plan(scenario, rank)
        assert plan.shard.nbytes == where.local_experts * each
        assert sum(piece.nbytes for piece in plan.slices) == lacking * each
        if scenario.strategy.pull == "all":
            assert pull_of(scenario, rank).nbytes == lacking * each


@given(scenarios(names=("dwdp",)), st.sampled_from(["split", "merged", "composite"]))
def test_the_ledger_has_the_same_bytes(scenario: Scenario, view: str) -> None:
    scenario = scenario.replace(**CHANNEL, **{"strategy.weight_view": view})
    model, local = scenario.model, scenario.local_experts
    each, layers = packed(model.hidden, model.expert_intermediate), model.moe_layers
    assert ledger(scenario, "replicated").experts == layers * model.experts * each
    held = ledger(scenario, "dwdp")
    remote = model.experts - local
    assert held.experts == layers * local * each
    staged = model.experts if view == "merged" and remote else remote
    assert held.staging == scenario.strategy.slots * staged * each
    assert ledger(scenario, "weight_gather").staging == scenario.strategy.slots * model.experts * each
    plain = scenario.replace(**{"model.expert_dtype": model.dtype})
    assert held.dense == ledger(plain, "dwdp").dense  # shared experts stay in the model's type


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_shares_of_columns_keep_all_scales_of_w2(ranks: int) -> None:
    model = qwen().model
    kept = [narrowed(model, share_of(model, ranks, rank)).expert_bytes for rank in range(ranks)]
    assert sum(kept) == model.expert_bytes + (ranks - 1) * 4 * model.hidden
    work = qwen(**{"group.ranks": ranks, "group.local_experts": None})
    assert ledger(work, "tensor").experts == 48 * 128 * max(kept)


def test_products_run_at_the_rate_of_fp8_and_rows_are_quantised() -> None:
    """A token once, 2048 columns; each of its 8 visits, 768: two bytes read, one written and a scale of four."""
    product, unfused, tokens, visits = WorkModel(qwen()).experts(16384)
    assert (product.unit, product.dtype, product.flops) == ("grouped_gemm", "fp8", 2 * 3 * 2048 * 768 * 8 * 16384)
    assert product.hbm_bytes == pytest.approx(128 * packed(2048, 768))
    plain = WorkModel(qwen(**{"model.expert_dtype": "bf16"})).experts(16384)
    assert len(plain) == 2
    assert unfused == plain[1]
    assert {tokens.unit, visits.unit} == {"activations"}
    assert tokens.hbm_bytes == 16384 * (3 * 2048 + 4)
    assert visits.hbm_bytes == pytest.approx(8 * 16384 * (3 * 768 + 4))


def test_a_rank_of_dep_quantises_its_own_tokens_and_sends_them_so() -> None:
    work = WorkModel(qwen(**{"strategy.name": "dep"}))
    _, _, tokens, visits = work.computed_experts(0, 0, 0)
    assert tokens.hbm_bytes == 16384 * (3 * 2048 + 4)
    assert visits.hbm_bytes == pytest.approx(2 * 4 * 16384 * (3 * 768 + 4))
    assert work.gather_tokens(0, 0).sent_bytes[1] == 16384 * (2048 + 4)
    assert work.reduce_tokens(0, 0).sent_bytes[1] == 16384 * 2048 * 2


def test_a_rank_without_tokens_quantises_those_of_others_for_the_second_product_alone() -> None:
    lengths = {"kind": "explicit", "lengths": [[], [64], [64], [64]]}
    works = WorkModel(qwen(workload=lengths, **{"strategy.name": "dep"})).computed_experts(0, 0, 0)
    assert [each.unit for each in works] == ["grouped_gemm", "activations", "activations"]
    assert works[2].hbm_bytes == pytest.approx(3 * 64 * 2 * (3 * 768 + 4))


def test_shared_experts_are_multiplied_in_the_model_s_type() -> None:
    work = qwen(**{"model.shared_experts": 2})
    found = WorkModel(work).experts(100)
    assert [each.dtype for each in found if each.flops] == ["fp8", "bf16"]
    assert found[1].hbm_bytes == 2 * 3 * 2048 * 768 * 2


def test_a_merge_copies_as_many_bytes_as_are_kept() -> None:
    (merge,) = WorkModel(qwen()).merge()
    assert merge.hbm_bytes == 2 * 32 * packed(2048, 768)
