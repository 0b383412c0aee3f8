"""The norm of hidden states is made with them, by the operation that adds them up, if its reader is on this rank."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from rank_scenarios import layers_in_turn
from stand_in_group import StandInGroup, start_at_once
from test_cuda_schedules import FORMS, scenario
from torch import Tensor

from dwdp_lab.execute.cuda.compute.torch_arithmetic import TorchArithmetic
from dwdp_lab.execute.cuda.warm_up import warm_steps
from dwdp_lab.program.build import build
from dwdp_lab.program.checker import check
from dwdp_lab.scenario.shares import share_of

STRATEGIES = [{"strategy.name": "replicated"}, {"strategy.name": "dwdp"}, *FORMS]


@pytest.mark.parametrize("form", STRATEGIES, ids=lambda form: "-".join(form.values()))
def test_only_what_enters_a_rank_is_normed_alone(form: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """That is the input of its first layer."""
    work = scenario(2, **form)
    programs, norm, alone = build(work), TorchArithmetic.norm, Counter[int]()

    def counted(x: Tensor, weight: Tensor, eps: float) -> Tensor:
        alone[len(x)] += 1
        return norm(x, weight, eps)

    monkeypatch.setattr(TorchArithmetic, "norm", staticmethod(counted))
    start_at_once(monkeypatch)
    group = StandInGroup(2)
    group.run(work, programs)
    group.close()
    warm = warm_steps(work)
    entries = 0
    for program in programs:
        steps = [
            op.step for op in program.ops if op.kind == "attention" and op.layer == min(o.layer for o in program.ops)
        ]
        entries += len(steps) + sum(step in warm for step in steps)
    assert alone.total() == entries


@pytest.mark.parametrize("name", ["replicated", "dwdp", "dep", "tensor", "pipeline"])
def test_every_norm_that_is_made_is_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three ranks that share two heads one has none, and its attention reads nothing."""
    work = scenario(3, **{"strategy.name": name, "workload.steps": 1})
    made = Counter[str]()

    def counted(of: str, function: Callable[..., Any], *arguments: Any) -> Any:
        made[of] += 1
        return function(*arguments)

    for of in ("norm", "add_norm", "combine_norm"):
        patched = staticmethod(partial(counted, of, getattr(TorchArithmetic, of)))
        monkeypatch.setattr(TorchArithmetic, of, patched)
    start_at_once(monkeypatch)
    group, programs = StandInGroup(3), build(work)
    group.run(work, programs)
    group.close()
    headless = {rank for rank in range(3) if name == "tensor" and not share_of(work.model, 3, rank).heads}
    assert len(headless) == (name == "tensor")
    read = Counter(op.kind for rank, program in enumerate(programs) for op in program.ops if rank not in headless)
    read += Counter(op.kind for rank in headless for op in programs[rank].ops if op.kind != "attention")
    assert made.total() == 2 * sum(
        read[kind] for kind in ("attention", "route", "dense")
    )  # warming up runs the step once more


def test_received_hidden_states_are_not_taken_for_those_that_a_rank_has_normed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rank has the next layer too, and norms for it what it sends away."""
    work = scenario(2, **{"strategy.name": "pipeline"})
    programs = build(work, partial(layers_in_turn, swapped=True))
    assert not check(programs, work)
    start_at_once(monkeypatch)
    group = StandInGroup(2)
    expected, *found = (
        [report.output_sha256 for report in group.run(*order)]
        for order in ((work.with_strategy("replicated"),), (work, programs), (work, programs, True))
    )
    group.close()
    assert found == [expected] * 2
