"""Rank processes compute what they should: DWDP bit for bit like replicated weights, all like the oracle."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from rank_scenarios import (
    MODEL,
    ODD_MODEL,
    ODD_SCALED_MODEL,
    SCALED_MODEL,
    assert_equals_oracle,
    scenario,
    several_steps,
)

from dwdp_lab.execute.ranks import Ranks
from dwdp_lab.execute.run_cpu import run_cpu
from dwdp_lab.program.build import build
from dwdp_lab.program.operation import Op
from dwdp_lab.program.rank_view import RankView
from dwdp_lab.scenario.scenario import Scenario

pytestmark = pytest.mark.ranks

BF16_MODEL = MODEL | {"dtype": "bf16", "expert_dtype": "bf16"}
DEP_FORMS: list[dict[str, Any]] = [
    {"strategy.dep_form": "all_to_all", "strategy.dep_rows": "per_rank"},
    {"strategy.dep_form": "all_to_all", "strategy.dep_rows": "per_expert"},
    {"strategy.dep_form": "all_gather"},
]


def hashes(ranks: Ranks, work: Scenario) -> tuple[str, ...]:
    return ranks.run(work).output_sha256


def check_all_strategies(ranks: Ranks, work: Scenario) -> None:
    """All strategies against the oracle, those that only move weights bit for bit against `replicated`."""
    results = run_cpu(work, ("replicated", "dwdp", "weight_gather", "dep"), ranks, outputs=True)
    for name, result in results.items():
        assert_equals_oracle(work, result)
        if name != "dep":
            assert result.output_sha256 == results["replicated"].output_sha256
            assert result.outputs is not None
            for mine, theirs in zip(result.outputs, results["replicated"].outputs or (), strict=True):
                assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


def test_two_ranks(two_ranks: Ranks) -> None:
    check_all_strategies(two_ranks, several_steps(2))


def test_three_ranks_that_do_not_divide_the_experts(three_ranks: Ranks) -> None:
    check_all_strategies(three_ranks, several_steps(3))


def test_placement_in_which_experts_have_several_owners(three_ranks: Ranks) -> None:
    check_all_strategies(three_ranks, several_steps(3, **{"group.local_experts": 5}))


def test_bf16_and_a_skewed_router(two_ranks: Ranks) -> None:
    check_all_strategies(two_ranks, several_steps(2, **{"model": ODD_MODEL, "workload.router_skew": 1.0}))


def test_layers_without_experts_in_between_and_at_the_end(two_ranks: Ranks) -> None:
    check_all_strategies(two_ranks, several_steps(2, **{"model.layers": 6, "model.more_dense_layers": [2, 3, 5]}))


@pytest.mark.parametrize("model", [SCALED_MODEL, ODD_SCALED_MODEL], ids=["bf16", "fp32 odd"])
def test_experts_in_e4m3(three_ranks: Ranks, model: dict[str, Any]) -> None:
    check_all_strategies(three_ranks, several_steps(3, model=model))


@pytest.mark.parametrize("model", [MODEL, SCALED_MODEL], ids=["plain", "scaled"])
@pytest.mark.parametrize("form", DEP_FORMS, ids=lambda form: "-".join(form.values()))
def test_dep_forms(three_ranks: Ranks, form: dict[str, Any], model: dict[str, Any]) -> None:
    work = several_steps(3, **{"strategy.name": "dep", "model": model}, **form)
    assert_equals_oracle(work, three_ranks.run(work, outputs=True))


@pytest.mark.parametrize("model", [MODEL, BF16_MODEL, SCALED_MODEL], ids=["fp32", "bf16", "scaled"])
@pytest.mark.parametrize("form", DEP_FORMS, ids=lambda form: "-".join(form.values()))
def test_dep_with_ranks_that_have_little_or_nothing_to_do(
    three_ranks: Ranks, form: dict[str, Any], model: dict[str, Any]
) -> None:
    for lengths in ([[17, 3], [], [1]], [[1], [], []]):  # of one token few ranks get a row
        work = scenario(3, lengths, model=model, **{"strategy.name": "dep"}, **form)
        assert_equals_oracle(work, three_ranks.run(work, outputs=True))


def test_a_rank_without_tokens(two_ranks: Ranks) -> None:
    work = scenario(2, [[9], []])
    check_all_strategies(two_ranks, work)
    assert two_ranks.run(work).output_sha256[1] == hashlib.sha256(b"").hexdigest()


def test_steps_in_which_some_ranks_are_done(two_ranks: Ranks) -> None:
    """The trace's queues have different lengths, so the last steps are empty on one rank."""
    trace = {"kind": "trace", "requests": 9, "divide_by": 100, "mnt_tokens": 24}
    work = Scenario.create(model=MODEL, group={"ranks": 2}, workload=trace)
    tokens = [[work.batches.tokens(rank, step) for step in range(work.batches.steps)] for rank in range(2)]
    assert any(0 in counts for counts in tokens)
    check_all_strategies(two_ranks, work)


@pytest.mark.parametrize("weight_view", ["split", "merged", "composite"])
@pytest.mark.parametrize(
    "model", [MODEL, ODD_MODEL, SCALED_MODEL, ODD_SCALED_MODEL], ids=["pages", "odd", "scaled", "odd scaled"]
)
def test_every_view_order_slicing_and_slots(two_ranks: Ranks, model: dict[str, Any], weight_view: str) -> None:
    base = scenario(2, [[5, 8], [3]], model=model)
    expected = hashes(two_ranks, base.with_strategy("replicated"))
    orders = ("ascending", "rotated", "interleaved", "permutation")
    slicing = itertools.cycle((None, 1024, 5000))
    for order, slots in itertools.product(orders, (1, 2, 3)):
        work = base.replace(
            **{
                "strategy.weight_view": weight_view,
                "strategy.peer_order": order,
                "strategy.slice_bytes": next(slicing),
                "strategy.slots": slots,
            }
        )
        assert hashes(two_ranks, work) == expected, work.strategy


@pytest.mark.parametrize(
    "knobs",
    [
        {"strategy.overlap": False},
        {"strategy.cross_step": True, "strategy.slots": 3},
        {"strategy.prefetch_distance": 1, "strategy.cross_step": True},
        {"strategy.weight_view": "composite", "strategy.cross_step": True},
        {"strategy.weight_view": "merged", "strategy.slots": 1},
        {"group.local_experts": 8},
        {"strategy.pull": "routed"},
        {"strategy.pull": "routed", "strategy.weight_view": "merged", "strategy.slice_bytes": 1500},
        {"strategy.pull": "routed", "strategy.weight_view": "composite", "strategy.peer_order": "permutation"},
    ],
    ids=lambda knobs: "-".join(f"{name.split('.')[1]}={value}" for name, value in knobs.items()),
)
@pytest.mark.parametrize("model", [MODEL, SCALED_MODEL], ids=["plain", "scaled"])
def test_schedules(two_ranks: Ranks, knobs: dict[str, Any], model: dict[str, Any]) -> None:
    base = several_steps(2, model=model)
    assert hashes(two_ranks, base.replace(**knobs)) == hashes(two_ranks, base.with_strategy("replicated"))


def test_one_rank_alone() -> None:
    check = scenario(1, [[7, 2]])
    results = run_cpu(check, ("replicated", "dwdp"))
    assert results["dwdp"].output_sha256 == results["replicated"].output_sha256


def test_another_model_seed_or_placement_replaces_what_was_kept(two_ranks: Ranks) -> None:
    first = scenario(2, [[6], [9]])
    others = [
        first.replace(**{"workload.seed": 7}),
        first.replace(**{"group.local_experts": 6}),
        first.replace(**{"model.layers": 2}),
    ]
    for work in (first, *others, first):
        assert hashes(two_ranks, work) == hashes(two_ranks, work.with_strategy("replicated"))
    assert hashes(two_ranks, others[0]) != hashes(two_ranks, first)


def test_the_hash_is_over_the_outputs(two_ranks: Ranks) -> None:
    result = two_ranks.run(several_steps(2), outputs=True)
    assert result.outputs is not None
    for digest, steps in zip(result.output_sha256, result.outputs, strict=True):
        raw = b"".join(step.view(torch.uint8).numpy().tobytes() for step in steps)
        assert digest == hashlib.sha256(raw).hexdigest()


def test_a_strategy_of_ones_own_that_interleaves_steps(two_ranks: Ranks) -> None:
    """The first step alone, which warms up, must not wait for what only other steps signal."""

    def interleaved(rank: RankView) -> Iterator[Op]:
        ends: tuple[str, ...] = ()
        for layer in rank.layers:
            for step in rank.busy_steps:
                yield rank.attention(step, layer)
                if layer not in rank.moe_layers:
                    yield rank.dense(step, layer)
                    continue
                yield rank.route(step, layer)
                yield rank.pull(step, layer, 0, ends, "pulled")
                yield rank.experts(step, layer, ("pulled",), "consumed", 0)
                ends = ("consumed",)

    work = several_steps(2)
    result = two_ranks.run(work, programs=build(work, interleaved))
    assert result.output_sha256 == hashes(two_ranks, work.with_strategy("replicated"))
