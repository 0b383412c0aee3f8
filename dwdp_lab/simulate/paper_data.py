"""The paper's numbers (data/paper/) and the scenarios behind them."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from dwdp_lab.scenario.model_config import read_model
from dwdp_lab.scenario.model_shape import ModelShape
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.shipped import shipped
from dwdp_lab.scenario.strategy import StrategyName


@lru_cache
def paper_data(name: str) -> dict[str, Any]:
    """One file of data/paper/, such as `table1`; cells that are null and marked `kept_back` are not published here."""
    fields: dict[str, Any] = json.loads(shipped("paper", ".json")[name].read_text(encoding="utf-8"))
    return fields


def paper_scenario(
    strategy: StrategyName,
    workload: dict[str, Any],
    knobs: dict[str, Any] | None = None,
    ranks: int | None = None,
    router_skew: float | None = None,
) -> Scenario:
    """A scenario of the paper's context-only runs; what is not given is as in data/paper/setup.json."""
    setup = paper_data("setup")
    skew = setup["router_skew"]["value"] if router_skew is None else router_skew
    return Scenario.create(
        model=setup["model"],
        hardware=setup["hardware"],
        group={"ranks": ranks or setup["ranks"]},
        strategy={"name": strategy, **setup["dep"], **(knobs or {})},
        workload={**setup["workload"], "router_skew": skew, **workload},
    )


def fitted_router_skew(model: ModelShape) -> float | None:
    """The router skew fitted to the paper for a model of DeepSeek-R1's shape; None for others, which nobody fitted."""
    setup = paper_data("setup")
    fitted = read_model(setup["model"])
    same = ("layers", "hidden", "experts", "top_k", "expert_intermediate")
    if any(getattr(model, name) != getattr(fitted, name) for name in same):
        return None
    skew: float = setup["router_skew"]["value"]
    return skew
