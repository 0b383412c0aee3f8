"""FLOPs and bytes by hand, and the expected traffic of an all-to-all against counted routings."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwdp_lab.program.build import build
from dwdp_lab.program.work import WorkModel, windowed_pairs
from dwdp_lab.scenario.batches import Chunk
from dwdp_lab.scenario.router import visit_probability
from dwdp_lab.scenario.scenario import Scenario


@given(st.integers(0, 40), st.integers(0, 40), st.none() | st.integers(1, 60))
def test_windowed_pairs_counts_what_each_query_sees(context: int, new: int, window: int | None) -> None:
    counted = sum(min(context + i + 1, window or 10**9) for i in range(new))
    assert windowed_pairs(context, new, window) == counted


@given(st.integers(1, 64), st.floats(0, 3), st.data())
def test_visits_sum_to_top_k_and_no_token_visits_an_expert_twice(
    experts: int, skew: float, data: st.DataObject
) -> None:
    top_k = data.draw(st.integers(1, experts))
    visits = visit_probability(experts, top_k, skew, 0, 3)
    assert sum(visits) == pytest.approx(top_k)
    assert all(0 <= share <= 1 + 1e-12 for share in visits)


@given(st.integers(2, 64), st.floats(0.1, 3), st.integers(1, 1 << 16))
def test_layers_differ_in_which_experts_are_popular_and_not_in_their_sums(
    experts: int, skew: float, tokens: int
) -> None:
    """To the last bit: the work of all experts is taken from one layer for all."""
    scenario = Scenario.create(
        model={"preset": "tiny", "experts": experts, "top_k": 1}, group={"ranks": 1}, workload={"router_skew": skew}
    )
    amounts = WorkModel(scenario)
    for of_layer in (amounts.visits, lambda layer: amounts.visited(tokens, layer)):
        first, other = of_layer(0), of_layer(1)
        assert sorted(first) == sorted(other)
        assert math.fsum(first) == math.fsum(other)


def test_replicated_experts_of_qwen3_by_hand() -> None:
    scenario = Scenario.create(
        model="qwen3-30b-a3b", workload={"tokens_per_rank": 16384, "cv": 0.0, "isl_tokens": 4096}
    )
    products, activations = WorkModel(scenario).experts(16384)
    assert products.flops == 2 * 3 * 2048 * 768 * 8 * 16384
    assert products.hbm_bytes == pytest.approx(128 * 3 * 2048 * 768 * 2)
    assert activations.hbm_bytes == 2 * 16384 * (8 * (3 * 2048 + 3 * 768) + 3 * 2048)


def test_attention_of_qwen3_by_hand() -> None:
    """32 query heads and 4 of keys and values, 128 wide: 500 tokens after 1,500 that are cached, and 100 after none."""
    scenario = Scenario.create(model="qwen3-30b-a3b")
    batch = (Chunk(0, 1500, 500), Chunk(1, 0, 100))
    inputs, before, core, output, after = WorkModel(scenario).attention(batch, 0)
    assert inputs.flops == 2 * 600 * 2048 * (32 + 2 * 4) * 128
    assert inputs.hbm_bytes == 2 * 2048 * (32 + 2 * 4) * 128
    assert before.hbm_bytes == 2 * 600 * (2 * 2048 + 2 * (32 + 2 * 4) * 128)  # the norm, then rotary and cache
    assert core.flops == (500 * 1500 + 500 * 501 // 2 + 100 * 101 // 2) * 2 * 32 * (128 + 128)
    assert core.hbm_bytes == 2 * (600 * 2 * 32 * 128 + 2100 * 2 * 4 * 128)  # queries, outputs; keys, values
    assert (output.flops, output.hbm_bytes) == (2 * 600 * 2048 * 32 * 128, 2 * 2048 * 32 * 128)
    assert after.hbm_bytes == 2 * 600 * 3 * 2048


def test_a_window_limits_every_other_layer() -> None:
    """gpt-oss: 128 tokens in layers 0, 2, 4, ...; of the cached ones no more are read, too."""
    scenario = Scenario.create(model="gpt-oss-120b")
    batch = (Chunk(0, 1000, 200),)
    _, _, near, *_ = WorkModel(scenario).attention(batch, 2)
    _, _, far, *_ = WorkModel(scenario).attention(batch, 3)
    per_pair, per_query, per_key = 4 * 64 * 64, 2 * 64 * 64, 2 * 8 * 64
    assert near.flops == 200 * 128 * per_pair
    assert near.hbm_bytes == 2 * (200 * per_query + (200 + 128) * per_key)
    assert far.flops == (200 * 1000 + 200 * 201 // 2) * per_pair
    assert far.hbm_bytes == 2 * (200 * per_query + 1200 * per_key)


def test_other_work_of_a_layer_by_hand() -> None:
    r1 = WorkModel(Scenario.create(model="deepseek-r1", group={"ranks": 4}))
    mlp, unfused = r1.dense(100)
    assert (mlp.flops, mlp.hbm_bytes) == (2 * 100 * 3 * 7168 * 18432, 2 * 3 * 7168 * 18432)
    # norm and residual (five rows of the hidden state), SwiGLU (two in, one out)
    assert unfused.hbm_bytes == 2 * 100 * (5 * 7168 + 3 * 18432)
    router, norm = r1.route(100)
    assert (router.flops, router.hbm_bytes) == (2 * 100 * 7168 * 256, 2 * 7168 * 256)
    assert norm.hbm_bytes == 2 * 100 * 2 * 7168
    expert = 3 * 7168 * 2048
    _, shared, _ = r1.experts(100)
    assert (shared.flops, shared.hbm_bytes) == (2 * 100 * expert, expert * (1 + 4 / 128**2))
    (merged,) = r1.merge()
    assert (merged.flops, merged.hbm_bytes) == (0, 2 * 64 * expert * (1 + 4 / 128**2))
    assert r1.attention((), 0) == r1.dense(0) == r1.route(0) == r1.experts(0) == ()


def test_deepseek_attention_by_hand() -> None:
    """187 M projection parameters; 2 x 128 heads x (192 + 128) FLOPs per pair of the causal triangle."""
    scenario = Scenario.create(model="deepseek-r1", workload={"tokens_per_rank": 8192, "cv": 0.0, "isl_tokens": 8192})
    inputs, _, core, output, _ = WorkModel(scenario).attention(scenario.batches.by_rank[0][0], 0)
    assert inputs.flops + output.flops == pytest.approx(2 * 187.1e6 * 8192, rel=1e-3)
    assert core.flops == 2 * 128 * 320 * 8192 * 8193 / 2


def test_a_prefix_hit_leaves_only_the_new_tokens_to_compute() -> None:
    whole = Scenario.create(workload={"kind": "explicit", "lengths": [[100], [100]]})
    hit = whole.replace(**{"workload.prefix_hit": 0.6})
    assert hit.batches.tokens(0) == 40
    for scenario, pairs in ((whole, 5050), (hit, 40 * 60 + 40 * 41 // 2)):
        _, _, core, *_ = WorkModel(scenario).attention(scenario.batches.by_rank[0][0], 0)
        assert core.flops == pairs * 4 * 4 * 16


def test_cached_tokens_of_latent_attention_are_decompressed_again() -> None:
    """DeepSeek-R1: 512 x 128 heads x (128 + 128) parameters make a token's keys and values of what is cached of it."""
    scenario = Scenario.create(
        model="deepseek-r1",
        group={"ranks": 1},
        workload={"kind": "explicit", "lengths": [[400]], "prefix_hit": 0.75},
    )
    inputs, _, core, output, _ = WorkModel(scenario).attention(scenario.batches.by_rank[0][0], 0)
    assert inputs.flops + output.flops == 2 * 187_105_280 * 100 + 2 * 512 * 128 * 256 * 300
    assert core.flops == 2 * 128 * 320 * (100 * 300 + 100 * 101 // 2)
    assert core.hbm_bytes == 2 * 128 * 320 * (100 + 400)  # queries, outputs; keys, values


@pytest.mark.parametrize("skew", [0.0, 1.0])
def test_expected_rows_of_an_all_to_all_match_drawn_routings(skew: float) -> None:
    ranks, experts, top_k, tokens = 4, 16, 4, 20000
    scenario = Scenario.create(
        model={"preset": "tiny", "experts": experts, "top_k": top_k},
        group={"ranks": ranks},
        workload={"router_skew": skew, "cv": 0.0},
    )
    amounts = WorkModel(scenario)
    by_popularity = sorted(range(experts), key=amounts.visits(0).__getitem__, reverse=True)
    shares = {expert: place**-skew for place, expert in enumerate(by_popularity, start=1)}
    draw = random.Random(1)
    met = [0] * ranks
    for _ in range(tokens):
        # the first k of exponential clocks
        scores = [draw.expovariate(shares[expert]) for expert in range(experts)]
        chosen = sorted(range(experts), key=scores.__getitem__)[:top_k]
        for rank in {expert * ranks // experts for expert in chosen}:
            met[rank] += 1
    for rank in range(ranks):
        assert amounts.copies_to(rank, 0) == pytest.approx(met[rank] / tokens, rel=0.1 if skew else 0.015)
    per_expert = WorkModel(scenario.replace(**{"strategy.dep_rows": "per_expert"}))
    assert sum(per_expert.copies_to(rank, 0) for rank in range(ranks)) == pytest.approx(top_k)


@pytest.mark.parametrize(
    ("ranks", "top_k", "kind"),
    [(2, 8, "gather_tokens"), (8, 8, "dispatch"), (4, 8, "gather_tokens"), (4, 2, "dispatch")],
)
def test_dep_takes_the_form_that_moves_less(ranks: int, top_k: int, kind: str) -> None:
    scenario = Scenario.create(
        model={"preset": "tiny", "experts": 64, "top_k": top_k},
        group={"ranks": ranks},
        strategy={"name": "dep"},
    )
    assert any(op.kind == kind for op in build(scenario)[0].ops)
