"""The simulator's times of `tensor` and `pipeline` against formulas worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
from any_scenario import scenarios
from hypothesis import given, settings
from hypothesis import strategies as st

from dwdp_lab.program.operation import Collective
from dwdp_lab.program.rank_view import RankView
from dwdp_lab.program.tensor_view import TensorView, joint_batch
from dwdp_lab.program.work import WorkModel
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.bound import bound_of, shorter_without
from dwdp_lab.simulate.cost import CostModel
from dwdp_lab.simulate.hardware import load_hardware
from dwdp_lab.simulate.physics import BOUND, REALISTIC, Physics
from dwdp_lab.simulate.predict import predict
from dwdp_lab.simulate.reached import Exchange, Number
from dwdp_lab.simulate.run import run_sim
from dwdp_lab.timeline.metrics import metrics
from dwdp_lab.timeline.span import Timeline

MODEL: dict[str, Any] = {
    "name": "any",
    "layers": 12,
    "hidden": 1024,
    "attention": {"kind": "gqa", "heads": 12, "kv_heads": 12, "head_dim": 64},
    "experts": 12,
    "top_k": 4,
    "expert_intermediate": 768,
}
H100 = load_hardware("h100")


def _scenario(**changes: Any) -> Scenario:
    return Scenario.create(model=MODEL, workload={"cv": 0.0, "tokens_per_rank": 4096}).replace(**changes)


def _end_us(timeline: Timeline) -> float:
    return max(span.end_us for span in timeline.spans)


def _stage_us(scenario: Scenario, layers: float, tokens: int) -> float:
    """One micro-batch through so many layers of a rank that keeps them whole."""
    cost, amounts = CostModel.of(load_hardware(scenario.hardware), scenario.link_gbps), WorkModel(scenario)
    batch = scenario.batches.by_rank[0][0]
    portion = batch[: len(batch) * tokens // sum(chunk.new_tokens for chunk in batch)]
    works = (amounts.attention(portion, 0), amounts.route(tokens), amounts.experts(tokens))
    return layers * sum(cost.work_us(work) for work in works)


@settings(deadline=None, max_examples=60)
@given(
    ranks=st.sampled_from([1, 2, 3, 4, 6, 12]),
    parts=st.sampled_from([1, 2, 4, 8]),
    steps=st.integers(1, 3),
)
def test_the_bubble_of_equal_stages_and_micro_batches(ranks: int, parts: int, steps: int) -> None:
    """(p - 1) / (m + p - 1) of the time until the last stage is done, on links that cost nothing."""
    scenario = _scenario(
        **{
            "group.ranks": ranks,
            "link_gbps": math.inf,
            "workload.isl_tokens": 512,
            "workload.steps": steps,
            "strategy.name": "pipeline",
            "strategy.micro_batches": parts,
        }
    )
    timeline = run_sim(scenario)
    busy = sum(span.duration_us for span in timeline.spans if span.lane == "compute")
    count, end = ranks * parts * steps, _end_us(timeline)
    bubble = 1 - busy / (ranks * end)
    assert bubble == pytest.approx((ranks - 1) / (count + ranks - 1), rel=1e-9, abs=1e-9)
    stage = _stage_us(scenario, 12 / ranks, 4096 // parts)
    assert end == pytest.approx((count + ranks - 1) * stage, rel=1e-9)
    waited = [of_rank.wait_on_peers_ms * steps for of_rank in metrics(timeline).by_rank]
    assert waited == pytest.approx([rank * stage / 1e3 for rank in range(ranks)], rel=1e-9, abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(
    ranks=st.sampled_from([2, 3, 4, 6]),
    parts=st.sampled_from([1, 2, 4, 8]),
    link=st.floats(0.05, 2000),
)
def test_a_pipeline_goes_at_the_pace_of_its_slower_part(ranks: int, parts: int, link: float) -> None:
    """Fill: a stage and a message for each rank but the last. Then a micro-batch every max(stage, message)."""
    scenario = _scenario(
        **{
            "group.ranks": ranks,
            "link_gbps": link,
            "workload.isl_tokens": 512,
            "strategy.name": "pipeline",
            "strategy.micro_batches": parts,
        }
    )
    stage = _stage_us(scenario, 12 / ranks, 4096 // parts)
    message = 4096 // parts * 1024 * 2 / (link * 1e3)
    expected = (ranks - 1) * (stage + message) + (ranks * parts - 1) * max(stage, message) + stage
    assert _end_us(run_sim(scenario)) == pytest.approx(expected, rel=1e-9)


@settings(deadline=None, max_examples=60)
@given(ranks=st.sampled_from([1, 2, 3, 4, 6]), link=st.floats(1, 4000) | st.just(math.inf), cv=st.floats(0, 0.5))
def test_a_tensor_layer_is_its_share_and_two_all_reduces(ranks: int, link: float, cv: float) -> None:
    """Heads and columns divide: all ranks do the same, and wait for nobody, however uneven the batches are."""
    scenario = _scenario(
        **{
            "group.ranks": ranks,
            "link_gbps": link,
            "workload.cv": cv,
            "workload.steps": 2,
            "strategy.name": "tensor",
        }
    )
    cost = CostModel.of(H100, link)
    view = TensorView(RankView(0, scenario, WorkModel(scenario)))
    expected = last_sum = 0.0
    for step in range(2):
        tokens = view.tokens(step)
        attention = view.amounts.attention(joint_batch(scenario.batches.by_rank, step), 0)
        share = (attention, view.amounts.route(tokens), view.amounts.experts(tokens))
        sums = 2 * 2 * (ranks - 1) / ranks * tokens * 1024 * 2 / (link * 1e3)
        expected += 12 * (sum(cost.work_us(work) for work in share) + sums)
        if step:  # the first attention of a step needs nothing of the last sum of the step before
            expected -= min(cost.work_us(attention), last_sum)
        last_sum = sums / 2
    timeline = run_sim(scenario)
    assert _end_us(timeline) == pytest.approx(expected, rel=1e-9)
    assert metrics(timeline).wait_on_peers_ms == 0


@settings(deadline=None, max_examples=60)
@given(scenarios(("tensor", "pipeline")), st.sampled_from([BOUND, REALISTIC]))
def test_one_rank_alone_is_a_replicated_one(scenario: Scenario, physics: Physics) -> None:
    if scenario.workload.kind == "explicit":
        return  # its lists are one per rank
    alone = scenario.replace(**{"group.ranks": 1, "group.local_experts": None, "strategy.micro_batches": 1})
    cut = run_sim(alone, hardware=load_hardware("h100"), physics=physics)
    whole = run_sim(alone.with_strategy("replicated"), hardware=load_hardware("h100"), physics=physics)
    assert _end_us(cut) == pytest.approx(_end_us(whole), rel=1e-9)
    for one, other in zip([span for span in cut.spans if span.lane == "compute"], whole.spans, strict=True):
        assert one[:5] == other[:5]
        assert one[5:] == pytest.approx(other[5:], rel=1e-9)


@settings(deadline=None, max_examples=60)
@given(scenarios(("tensor", "pipeline")), st.floats(0.1, 1000), st.floats(1.0, 10.0), st.booleans())
def test_a_faster_link_slows_neither(scenario: Scenario, link: float, faster: float, efficient: bool) -> None:
    physics = Physics(efficiency=efficient, activations=efficient, latencies=efficient)
    ends = [
        _end_us(run_sim(scenario.replace(link_gbps=gbps), hardware=H100, physics=physics))
        for gbps in (link, link * faster)
    ]
    assert ends[1] <= ends[0] * (1 + 1e-9)


def test_on_links_that_cost_nothing_a_long_pipeline_is_replicated_but_for_its_fill() -> None:
    scenario = _scenario(**{"group.ranks": 4, "link_gbps": math.inf, "workload.steps": 50, "strategy.name": "pipeline"})
    whole = _end_us(run_sim(scenario.with_strategy("replicated")))
    assert _end_us(run_sim(scenario)) == pytest.approx(whole * (200 + 3) / 200, rel=1e-9)


def test_a_message_costs_its_copy_and_crosses_nodes_at_their_rate() -> None:
    sent = Collective((0.0, 45e6))
    cost = CostModel.of(H100)
    assert cost.message_us(sent, 0, 1) == pytest.approx(100)
    assert H100.reached is not None
    assert H100.reached.copy_us is not None
    late = CostModel.of(H100, None, Physics(latencies=True))
    assert late.message_us(sent, 0, 1) == pytest.approx(100 + H100.reached.copy_us.value)
    assert CostModel.of(H100, math.inf, Physics(latencies=True)).message_us(sent, 0, 1) == 0
    pairs = H100.model_copy(update={"pair_gbps": Number(value=45.0, source="made up")})
    assert CostModel.of(pairs).message_us(sent, 0, 1) == pytest.approx(1000)
    one, other = (Number(value=value, source="made up") for value in (1, 4.5))
    apart = H100.model_copy(update={"gpus_per_node": one, "inter_node_gbps": other})
    assert CostModel.of(apart).message_us(sent, 0, 1) == pytest.approx(10_000)


def test_sums_are_added_up_on_a_node_before_they_leave_it() -> None:
    """Four ranks on two nodes: a node's two ranks each send half of its sum, and half of the result comes back."""
    two, slow = (Number(value=value, source="made up") for value in (2, 1.0))
    apart = H100.model_copy(update={"gpus_per_node": two, "inter_node_gbps": slow})
    scenario = _scenario(**{"group.ranks": 4})
    rows = 4 * 4096 * 1024 * 2
    sent = [WorkModel(scenario).all_reduce(rank, 4 * 4096) for rank in range(4)]
    assert CostModel.of(apart).collective_us(sent) == pytest.approx(rows / 2 / 1e3)


def test_uneven_micro_batches_make_the_bubble_larger() -> None:
    ends = []
    for cv in (0.0, 0.2, 0.4):
        scenario = _scenario(**{"group.ranks": 4, "workload.cv": cv, "workload.steps": 8, "strategy.name": "pipeline"})
        whole = run_sim(scenario.with_strategy("replicated"))
        ends.append(_end_us(run_sim(scenario)) * 4 / sum(span.duration_us for span in whole.spans))
    assert ends[0] < ends[1] < ends[2]


def test_what_limits_each() -> None:
    """Little time for each message, and one micro-batch at a time: the fill is most of it."""
    few = _scenario(**{"group.ranks": 6, "strategy.name": "pipeline"})
    shares = shorter_without(few, H100, BOUND)
    assert shares["wait"] == pytest.approx(sum(range(6)) / sum(range(6, 12)), rel=0.05)
    slow = _scenario(**{"group.ranks": 6, "strategy.name": "tensor", "link_gbps": 20.0})
    assert bound_of(slow, H100, BOUND) == "link"
    assert bound_of(slow.replace(link_gbps=4000.0), H100, BOUND) == "compute"


@pytest.mark.parametrize("profile", ["h100", "mi300x", "laptop"])
def test_they_are_predicted_beside_the_others(profile: str) -> None:
    scenario = _scenario(**{"group.ranks": 3, "model.layers": 4})
    found = predict(scenario, load_hardware(profile), sizes=[3])
    for name in ("tensor", "pipeline"):
        figures = found.strategies[name]  # type: ignore[index]
        assert figures.step_ms > found.strategies["replicated"].step_ms
        assert found.memory[name].experts == pytest.approx(found.memory["replicated"].experts / 3, rel=0.6)  # type: ignore[index]


@pytest.mark.parametrize("preset", ["deepseek-r1", "gpt-oss-120b", "mixtral-8x7b"])
@pytest.mark.parametrize("ranks", [3, 72])
def test_models_and_groups_that_do_not_divide(preset: str, ranks: int) -> None:
    scenario = Scenario.create(
        model=preset, group={"ranks": ranks}, workload={"tokens_per_rank": 512, "cv": 0.3, "isl_tokens": 100}
    )
    for name in ("tensor", "pipeline"):
        timeline = run_sim(scenario.with_strategy(name), physics=REALISTIC)  # type: ignore[arg-type]
        working = {span.rank for span in timeline.spans}
        stages = ranks if name == "tensor" else min(ranks, scenario.model.layers)
        assert len(working) == stages


def test_an_all_reduce_costs_what_the_exchange_that_adds_up_does() -> None:
    """A calibration measures reduce_tokens; what collectives reach in general (here a hundredth) is not taken then."""
    known = load_hardware("h200")
    assert known.reached is not None
    one = Number(value=0.5, source="made up")
    adds_up = Exchange(share=one, fixed_us=one)
    slow = known.reached.model_copy(update={"collective": Number(value=0.005, source="made up")})
    cost = {
        name: CostModel.of(
            known.model_copy(update={"reached": slow.model_copy(update={"exchanges": exchanges})}), None, REALISTIC
        )
        for name, exchanges in (("nothing", {}), ("sums", {"reduce_tokens": adds_up}))
    }
    sent = [Collective((0.0, 1e8)), Collective((1e8, 0.0))]
    sums = cost["sums"].collective_us(sent, "reduce_tokens")
    assert cost["sums"].collective_us(sent, "all_reduce_mlp") == sums
    assert cost["sums"].collective_us(sent, "gather_tokens") == cost["nothing"].collective_us(sent, "all_reduce_mlp")
    assert cost["nothing"].collective_us(sent, "all_reduce_mlp") > 50 * sums
