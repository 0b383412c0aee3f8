"""What cannot be replayed from CUDA graphs is refused with the reason, before anything starts."""

from __future__ import annotations

from typing import Any

import pytest
from rank_scenarios import scenario

from dwdp_lab.cli.main import main
from dwdp_lab.execute.cuda.graph_refusal import check_replays
from dwdp_lab.execute.ranks import Ranks
from dwdp_lab.program.build import build
from dwdp_lab.scenario.errors import ScenarioError

ALL_GATHER = {"strategy.name": "dep", "strategy.dep_form": "all_gather"}
ALL_TO_ALL = {"strategy.name": "dep", "strategy.dep_form": "all_to_all"}


@pytest.mark.parametrize(
    ("changes", "gpus", "said"),
    [
        ({}, 1, None),
        ({"strategy.name": "replicated", "strategy.copy_calls": "batched"}, 1, None),
        ({"strategy.weight_view": "merged", "strategy.cross_step": True}, 1, None),
        ({"strategy.pull": "routed"}, 2, "strategy.pull=all"),
        ({"strategy.copy_calls": "batched"}, 2, "strategy.copy_calls=plain"),
        ({"strategy.copy_engines": "source"}, 2, "strategy.copy_engines=reader or auto"),
        (ALL_TO_ALL, 2, "strategy.dep_form=all_gather"),
        (ALL_GATHER, 2, None),
        (ALL_GATHER, 1, "a GPU for each: 2 ranks on 1 GPUs"),
        ({"strategy.name": "weight_gather"}, 2, None),
        ({"strategy.name": "weight_gather"}, 1, "take as many ranks as GPUs"),
        ({"strategy.name": "tensor"}, 1, "over NCCL"),
        ({"strategy.name": "tensor", "strategy.collectives": "nccl"}, 2, None),
        ({"strategy.name": "tensor", "strategy.collectives": "copy"}, 2, "strategy.collectives=nccl or auto"),
        ({"strategy.collectives": "copy"}, 2, None),
        ({"strategy.name": "pipeline"}, 2, "steps of pipeline overlap"),
    ],
)
def test_the_reason_and_the_way_out(changes: dict[str, Any], gpus: int, said: str | None) -> None:
    work = scenario(2, [[4], [3]], **changes)
    if said is None:
        check_replays("cuda", work, build(work), gpus)
        return
    with pytest.raises(ScenarioError) as caught:
        check_replays("cuda", work, build(work), gpus)
    assert (caught.value.field, caught.value.value) == ("graph", True)
    assert said.lower() in str(caught.value).lower()


def test_ranks_without_gpus_have_no_graphs() -> None:
    ranks = Ranks(2)
    with pytest.raises(ScenarioError, match="graph = True: cpu ranks have none"):
        ranks.run(scenario(2, [[4], [3]]), graph=True)
    assert not ranks.alive


@pytest.mark.parametrize(("machine", "said"), [("sim", "the simulator queues nothing"), ("cpu", "cpu ranks have none")])
def test_the_command_says_it_too(machine: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--machine", machine, "--graph"]) == 2
    assert said in capsys.readouterr().err
