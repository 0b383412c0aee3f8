"""The norm of hidden states is made with them, by the operation that adds them up, if its reader is on this rank."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from stand_in_group import StandInGroup, start_at_once
from test_cuda_schedules import FORMS, scenario
from torch import Tensor

from dwdp_lab.execute.cuda.compute.torch_arithmetic import TorchArithmetic
from dwdp_lab.execute.cuda.warm_up import warm_steps
from dwdp_lab.program.build import build

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
