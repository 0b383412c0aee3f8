"""Layers without experts, wherever they lie: what they cost, and what is pulled across them."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from dwdp_lab.program.build import build
from dwdp_lab.program.memory import ledger
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.strategy import StrategyName
from dwdp_lab.simulate.run import run_sim
from dwdp_lab.simulate.shortened import FEW_LAYERS, few_layers

FIRST: dict[str, Any] = {"dense_layers": 3}
ANYWHERE: dict[str, Any] = {"dense_layers": 1, "more_dense_layers": [2, 5]}


def scenario(dense: dict[str, Any], **changes: Any) -> Scenario:
    model = {"preset": "qwen3-30b-a3b", "layers": 6, "dense_intermediate": 6144, **dense}
    return Scenario.create(model=model, group={"ranks": 4}, **changes)


@pytest.mark.parametrize("name", get_args(StrategyName))
def test_dense_layers_cost_the_same_wherever_they_lie(name: StrategyName) -> None:
    first, anywhere, nowhere = (scenario(dense).with_strategy(name) for dense in (FIRST, ANYWHERE, {}))
    if name != "pipeline":  # its fullest stage is another one then
        assert ledger(first, name) == ledger(anywhere, name)
        assert ledger(first, name).experts == ledger(nowhere, name).experts / 2
    assert computing_us(first) == pytest.approx(computing_us(anywhere))


def test_parameters_are_counted_wherever_dense_layers_lie() -> None:
    first, anywhere, nowhere = (scenario(dense).model for dense in (FIRST, ANYWHERE, {}))
    assert first.params == anywhere.params
    experts = 128 * (3 * 2048 * 768 + 2048)  # and their columns of the router
    assert nowhere.params - first.params == 3 * (experts - 3 * 2048 * 6144)


def computing_us(work: Scenario) -> float:
    return sum(span.end_us - span.start_us for span in run_sim(work).spans if span.lane == "compute")


def test_pulls_are_of_layers_with_experts_and_have_the_dense_ones_to_hide_behind() -> None:
    work = scenario(ANYWHERE, strategy={"slots": 1})
    ops = build(work)[0].ops
    assert [op.layer for op in ops if op.kind == "pull"] == list(work.model.layers_with_experts) == [1, 3, 4]
    names = [f"{op.kind} {op.layer}" for op in ops]
    # the pull of layer 3 is issued as soon as the slot is free, with a whole dense layer before its experts
    assert names.index("experts 1") < names.index("pull 3") < names.index("dense 2") < names.index("experts 3")


def test_a_model_cut_short_keeps_its_pattern() -> None:
    every_other = list(range(0, 48, 2))
    work = Scenario.create(
        model={"preset": "qwen3-30b-a3b", "more_dense_layers": every_other, "dense_intermediate": 6144},
        group={"ranks": 32},
    )
    short = few_layers(work).model
    assert list(short.layers_with_experts) == list(range(1, 2 * FEW_LAYERS, 2))
    assert short.layers == 2 * FEW_LAYERS
