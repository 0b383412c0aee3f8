"""Work, traffic and memory of `tensor` and `pipeline`, against those of replicated layers and by hand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import pytest
from any_scenario import scenarios
from hypothesis import given, settings

from dwdp_lab.program.build import build
from dwdp_lab.program.memory import ledger
from dwdp_lab.program.operation import ALL_REDUCES, Op, Program
from dwdp_lab.scenario.model_shape import GroupedQueryAttention
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.shares import share_of

Sums = dict[str, float]


def _flops(programs: Iterable[Program]) -> Sums:
    """By kind and unit, over all ranks, steps and layers."""
    total: Sums = defaultdict(float)
    for program in programs:
        for op in program.ops:
            for work in op.work:
                if work.flops:
                    total[f"{op.kind} {work.unit}"] += work.flops
    return total


@settings(max_examples=80, deadline=None)
@given(scenarios(("pipeline",)))
def test_a_pipeline_does_the_work_of_replicated_ranks(scenario: Scenario) -> None:
    whole = _flops(build(scenario.with_strategy("replicated")))
    assert _flops(build(scenario)) == pytest.approx(whole, rel=1e-9)


@settings(max_examples=80, deadline=None)
@given(scenarios(("tensor",)))
def test_ranks_that_cut_layers_across_share_the_work_and_repeat_the_router(scenario: Scenario) -> None:
    """Key heads that several ranks look at are computed by each of them."""
    whole, parts = _flops(build(scenario.with_strategy("replicated"))), _flops(build(scenario))
    model, ranks = scenario.model, scenario.ranks
    assert isinstance(model.attention, GroupedQueryAttention)
    tokens = sum(scenario.batches.tokens(rank) for rank in range(ranks))
    kept = [len(share_of(model, ranks, rank).kv_heads) for rank in range(ranks)]
    per_head = 2 * tokens * model.layers * model.hidden * 2 * model.attention.head_dim
    expected = dict(whole)
    expected["route gemm"] *= ranks
    expected["attention gemm"] += per_head * (sum(kept) - model.attention.kv_heads)
    assert parts == pytest.approx(expected, rel=1e-9)


def _qwen(ranks: int, **strategy: Any) -> Scenario:
    return Scenario.create(
        model={"preset": "qwen3-30b-a3b", "layers": 8},
        group={"ranks": ranks},
        workload={"tokens_per_rank": 4096, "cv": 0.0, "isl_tokens": 1024},
        strategy=strategy,
    )


@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
def test_an_all_reduce_sends_two_n_minus_one_over_n_of_the_rows(ranks: int) -> None:
    scenario = _qwen(ranks, name="tensor")
    sums = [[op for op in program.ops if op.kind in ALL_REDUCES] for program in build(scenario)]
    assert [len(of_rank) for of_rank in sums] == [2 * 8] * ranks
    for op in (op for of_rank in sums for op in of_rank):
        assert op.collective is not None
        rows = ranks * 4096 * 2048 * 2
        assert sum(op.collective.sent_bytes) == pytest.approx(2 * (ranks - 1) / ranks * rows)


def test_stages_send_each_micro_batch_once_to_the_next() -> None:
    scenario = _qwen(4, name="pipeline", micro_batches=2)
    programs = build(scenario)

    def ends(kind: str, rank: int) -> list[Op]:
        return [op for op in programs[rank].ops if op.kind == kind]

    for rank in range(4):
        sent, received = ends("send", rank), ends("recv", rank)
        assert len(sent) == (8 if rank < 3 else 0)
        assert len(received) == (8 if rank else 0)
        assert {(op.peer, op.layer) for op in sent} == ({(rank + 1, 2 * (rank + 1))} if sent else set())
        assert all(op.collective is not None and sum(op.collective.sent_bytes) == 2048 * 2048 * 2 for op in sent)


def test_more_ranks_than_layers_leave_some_without() -> None:
    scenario = _qwen(4, name="pipeline").replace(**{"model.layers": 2})
    programs = build(scenario)
    assert [bool(program.ops) for program in programs] == [False, True, False, True]
    assert {op.peer for op in programs[1].ops if op.kind == "send"} == {3}


def test_memory_of_shares_by_hand() -> None:
    scenario = _qwen(4)
    model = scenario.model
    whole, cut, staged = (ledger(scenario, name) for name in ("replicated", "tensor", "pipeline"))  # type: ignore[arg-type]
    assert whole.experts == 8 * 128 * model.expert_bytes
    assert cut.experts == whole.experts / 4
    assert cut.attention == whole.attention / 4
    assert cut.keys_values == whole.keys_values  # a quarter of the heads, four ranks' tokens
    assert cut.embeddings == whole.embeddings
    assert cut.activations == 4 * 4096 * 8 * (2 * 2048 + 3 * 192) * 2
    assert staged.experts == whole.experts / 4
    assert staged.keys_values == whole.keys_values  # a quarter of the layers, four ranks' tokens
    assert staged.embeddings == whole.embeddings / 2  # the first stage's or the last's
    assert staged.activations == whole.activations
    assert ledger(_qwen(4, micro_batches=4), "pipeline").activations == whole.activations / 4
    assert cut.staging == staged.staging == 0


def test_a_compressed_cache_is_whole_on_every_rank() -> None:
    r1 = Scenario.create(model="deepseek-r1", group={"ranks": 8}, workload={"tokens_per_rank": 64, "cv": 0.0})
    assert ledger(r1, "tensor").keys_values == 8 * ledger(r1, "replicated").keys_values


@pytest.mark.parametrize("strategy", ["tensor", "pipeline"])
def test_one_rank_keeps_what_a_replicated_one_does(strategy: Any) -> None:
    scenario = Scenario.create(model="deepseek-r1", group={"ranks": 1}, workload={"tokens_per_rank": 640, "cv": 0.0})
    assert ledger(scenario, strategy) == ledger(scenario, "replicated")


def test_the_fullest_stage_is_the_one_that_counts() -> None:
    """The first stages of DeepSeek-R1 have dense layers, which are smaller than those with experts."""
    scenario = Scenario.create(model="deepseek-r1", group={"ranks": 8}, workload={"tokens_per_rank": 64, "cv": 0.0})
    model = scenario.model
    held = ledger(scenario, "pipeline")
    assert held.experts == 8 * 256 * model.expert_bytes  # 61 layers on 8 ranks: at most 8
    assert held.embeddings == model.vocab * model.hidden * model.activation_bytes
