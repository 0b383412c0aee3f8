"""Slots and weights that do not go together: ranks would compute with the wrong bytes, or overwrite some."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dwdp_lab.program.build import STRATEGIES, build
from dwdp_lab.program.checker import check
from dwdp_lab.program.operation import Op
from dwdp_lab.program.rank_view import RankView
from dwdp_lab.scenario.scenario import Scenario


def _of(rank: RankView) -> Iterator[Op]:
    return STRATEGIES[rank.knobs.name](rank)


def _experts_of_a_slot(rank: RankView) -> Iterator[Op]:
    """Nothing says that the pull has ended; and what was received is for the experts the rank keeps."""
    for op in _of(rank):
        if op.kind == "experts":
            yield rank.pull(op.step, op.layer, 0, (), "pulled")
        yield op._replace(slot=0) if op.kind == "experts" else op


def _merge(rank: RankView) -> Iterator[Op]:
    for op in _of(rank):
        if op.kind == "experts" and op.slot is not None:
            yield rank.merge(op.step, op.layer, op.slot)
        yield op


def _pull_the_first_layer(rank: RankView) -> Iterator[Op]:
    for op in _of(rank):
        first = op.kind == "gather_weights" and op.layer == 0 and op.slot is not None
        yield rank.pull(op.step, op.layer, op.slot or 0, op.waits, op.signals or "") if first else op


def _dispatch_a_micro_batch(rank: RankView) -> Iterator[Op]:
    for op in _of(rank):
        if op.kind == "experts":
            yield rank.send("dispatch", op.step, op.layer, (), "received")._replace(micro=op.micro)
        yield op


@pytest.mark.parametrize(
    ("name", "knobs", "strategy", "fault", "words"),
    [
        ("dep", {}, _experts_of_a_slot, "wrong slot", "experts of layer 0, step 0 reads slot 0, but tokens came to"),
        ("dwdp", {"weight_view": "split"}, _merge, "wrong slot", "merge of layer 0, step 0 fills slot 0, which has no"),
        ("weight_gather", {}, _pull_the_first_layer, "mixed", "pull of layer 0, step 0: the rank gathers weights too"),
        ("pipeline", {}, _dispatch_a_micro_batch, "mixed", "dispatch of layer 0, step 0, micro-batch 0 is for all ran"),
    ],
)
def test_they_are_refused(
    name: str, knobs: dict[str, Any], strategy: Callable[[RankView], Iterator[Op]], fault: str, words: str
) -> None:
    scenario = Scenario.create(model="tiny", group={"ranks": 2}, strategy={"name": name, **knobs})
    assert check(build(scenario), scenario) == []
    messages = [hazard.message for hazard in check(build(scenario, strategy), scenario) if hazard.fault == fault]
    assert any(words in message for message in messages), messages
