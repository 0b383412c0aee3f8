"""Models of transformers on GPU ranks, proven on stand-ins: nothing of a stream runs before an adversary picks it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from adversary import World, chooser
from any_scenario import scenarios
from host_memory import HostMemory
from hypothesis import given, settings
from stand_in_device import StandInDevice
from stand_in_group import StandInSession, Table
from tiny_models import tiny_model, token_ids

from dwdp_lab.execute.hf.gpu_experts import queue_turns
from dwdp_lab.execute.hf.gpu_job import run_on
from dwdp_lab.execute.hf.gpu_loaded import GpuRank
from dwdp_lab.execute.hf.order import HfAnswer, HfOrder
from dwdp_lab.execute.hf.run_model import hf_scenario
from dwdp_lab.execute.report import of_steps
from dwdp_lab.model.hf.interface import use_hf_experts
from dwdp_lab.program.build import build
from dwdp_lab.program.operation import Program
from dwdp_lab.program.pull_plan import pull_plan
from dwdp_lab.scenario.scenario import Scenario

PROMPTS = [token_ids(2, 7).tolist(), token_ids(1, 12, seed=2).tolist(), []]


class Group:
    """Three ranks on stand-in GPUs that keep what they have loaded."""

    def __init__(self, seed: int = 0) -> None:
        self.world = World(3, *chooser(seed))
        table = Table(3)
        self.sessions = [StandInSession(self.world, rank, table) for rank in range(3)]
        self.gpus = [GpuRank(StandInDevice(self.world, rank, HostMemory(4096))) for rank in range(3)]

    def schedule(self, seed: int) -> None:
        self.world._choose, self.world._dice = chooser(seed)

    def run(
        self, folder: Path, new_tokens: int = 0, programs: tuple[Program, ...] | None = None, **fields: Any
    ) -> tuple[HfOrder, list[HfAnswer]]:
        """Nothing checks the programs."""
        scenario = hf_scenario(3, folder, PROMPTS, **fields)
        given = tuple(tuple(tuple(prompt) for prompt in mine) for mine in PROMPTS)
        order = HfOrder(str(folder), None, scenario, programs or build(scenario), given, new_tokens, all_logits=True)
        return order, self.world.run(lambda rank: run_on(self.sessions[rank], self.gpus[rank], order))  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=["deepseek_v3", "qwen2_moe"])
def checkpoint(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[torch.Tensor], list[torch.Tensor]]:
    """Of a model that begins with a dense layer, and of one with experts in layers 1 and 3 of 5."""
    model, folder = tiny_model(request.param), tmp_path_factory.mktemp(request.param)
    model.save_pretrained(folder)
    use_hf_experts(model)
    inputs = [torch.tensor(prompts) for prompts in PROMPTS if prompts]
    with torch.inference_mode():
        logits = [model(ids).logits for ids in inputs]
        return folder, logits, [model.generate(ids, max_new_tokens=3, do_sample=False) for ids in inputs]


KNOBS: list[dict[str, Any]] = [
    {},
    {"strategy": {"slots": 1}},
    {"strategy": {"slots": 3, "prefetch_distance": 1, "weight_view": "merged"}},
    {"strategy": {"weight_view": "composite", "slice_bytes": 1024, "peer_order": "interleaved"}},
    {"strategy": {"pull": "routed"}},
    {"strategy": {"name": "replicated"}},
    {"group": {"local_experts": 5}},
]


@pytest.mark.parametrize("knobs", KNOBS, ids=str)
def test_whatever_the_streams_do_first_the_answers_are_the_stock_models(checkpoint: Any, knobs: dict[str, Any]) -> None:
    folder, logits, tokens = checkpoint
    group = Group()
    for seed in range(8):
        group.schedule(seed)
        order, answers = group.run(folder, new_tokens=3 if seed % 2 else 0, **knobs)
        found = [answer.tokens if seed % 2 else answer.logits for answer in answers]
        assert found[2] is None
        assert all(
            torch.equal(mine, theirs) for mine, theirs in zip(found, tokens if seed % 2 else logits, strict=False)
        )
    assert [answer.passes for answer in answers] == [3, 3, 0]
    if not order.replicated:
        pulls = [span for span in answers[1].spans if span.kind == "pull"]
        layers = order.scenario.model.layers_with_experts
        assert [(span.step, span.layer) for span in pulls] == [(step, layer) for step in range(3) for layer in layers]
        assert len(answers[1].spans) == len(order.programs[1].ops) * 3
        assert all(0 <= span.start_us <= span.end_us for span in answers[1].spans)
        if order.scenario.strategy.pull == "all":
            assert {span.nbytes for span in pulls} == {sum(each.nbytes for each in pull_plan(order.scenario, 1).slices)}


@pytest.mark.parametrize("lost", ["pulled", "consumed"])
def test_an_adversary_finds_what_a_lost_wait_breaks(checkpoint: Any, lost: str) -> None:
    """So that the test above can fail: without either of DWDP's two waits some schedule gives wrong answers."""
    folder, logits, _ = checkpoint
    group = Group()
    scenario = hf_scenario(3, folder, PROMPTS, strategy={"slots": 1})
    racy = tuple(
        Program(
            program.rank,
            tuple(op._replace(waits=tuple(name for name in op.waits if lost not in name)) for op in program.ops),
        )
        for program in build(scenario)
    )
    wrong = 0
    for seed in range(20):
        group.schedule(seed)
        _, answers = group.run(folder, programs=racy, strategy={"slots": 1})
        wrong += not all(torch.equal(a.logits, b) for a, b in zip(answers, logits, strict=False))
    assert wrong


@settings(deadline=None, max_examples=60)
@given(scenario=scenarios(("replicated", "dwdp")))
def test_turns_keep_issue_order_and_leave_nothing_out(scenario: Any) -> None:
    for program in build(scenario):
        steps = {op.step for op in program.ops}
        ops = of_steps(program.ops, {min(steps)}) if steps else ()
        first, later, after = queue_turns(ops)
        assert [index for turn in (first, *later, after) for index in turn] == list(range(len(ops)))
        assert all(ops[index].kind in ("attention", "dense") for index in after)
        assert all(ops[index].lane != "compute" for index in first)
        for turn in later:
            assert [ops[index].kind for index in turn].count("experts") == 1
            assert ops[turn[0]].lane == "compute"


def test_a_program_that_goes_on_after_the_last_experts_is_refused() -> None:
    ops = build(Scenario.create(strategy={"weight_view": "merged"}))[0].ops
    merge = next(op for op in ops if op.kind == "merge")
    with pytest.raises(ValueError, match="the merge of layer 0, step 0 comes after the last experts"):
        queue_turns([*ops, ops[0], merge])
