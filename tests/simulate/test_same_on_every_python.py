"""One seed gives one result on every Python: `sum` adds floats with compensation from 3.12 on, and plainly before.

A difference in the last bit is enough to change who comes to a shared link first, and so the fourth digit of a step.
"""

from __future__ import annotations

import builtins
import functools
import math
import operator
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from dwdp_lab.program import pull_plan
from dwdp_lab.scenario import router
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.physics import REALISTIC
from dwdp_lab.simulate.run import run_sim
from dwdp_lab.timeline.metrics import Metrics, metrics
from dwdp_lab.timeline.span import Span


def plain(numbers: Iterable[Any], start: Any = 0) -> Any:
    return functools.reduce(operator.add, numbers, start)


def compensated(numbers: Iterable[Any], start: Any = 0) -> Any:
    found = list(numbers)
    return math.fsum(found) + start if any(isinstance(each, float) for each in found) else plain(found, start)


@pytest.mark.parametrize(
    "strategy",
    [
        {"name": "dwdp"},
        {"name": "dwdp", "pull": "routed"},
        {"name": "dep"},
        {"name": "weight_gather"},
        {"name": "tensor"},
        {"name": "pipeline"},
    ],
    ids=str,
)
def test_a_simulated_run_does_not_depend_on_how_sum_adds_floats(
    monkeypatch: pytest.MonkeyPatch, strategy: dict[str, str]
) -> None:
    scenario = Scenario.create(
        model={"preset": "qwen3-30b-a3b", "layers": 6},
        group={"ranks": 4},
        strategy=strategy,
        workload={"kind": "cv", "cv": 0.2, "tokens_per_rank": 8192, "steps": 2, "router_skew": 0.6},
        hardware="h100",
    )

    def run(adding: Callable[..., Any]) -> tuple[tuple[Span, ...], Metrics]:
        for known in (router.visit_probability, router._visits, pull_plan._pull):
            known.cache_clear()
        with monkeypatch.context() as patched:
            patched.setattr(builtins, "sum", adding)
            timeline = run_sim(scenario, physics=REALISTIC)
            return tuple(timeline.spans), metrics(timeline)

    assert run(plain) == run(compensated)
