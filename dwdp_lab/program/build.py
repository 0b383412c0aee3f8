"""From a scenario to one program per rank."""

from __future__ import annotations

from dwdp_lab.program.dep import dep
from dwdp_lab.program.dwdp import dwdp
from dwdp_lab.program.operation import Program
from dwdp_lab.program.pipeline import pipeline
from dwdp_lab.program.rank_view import RankView, StrategyFunction
from dwdp_lab.program.replicated import replicated
from dwdp_lab.program.tensor import tensor
from dwdp_lab.program.weight_gather import weight_gather
from dwdp_lab.program.work import WorkModel
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.strategy import StrategyName

STRATEGIES: dict[StrategyName, StrategyFunction] = {
    "replicated": replicated,
    "dep": dep,
    "weight_gather": weight_gather,
    "dwdp": dwdp,
    "tensor": tensor,
    "pipeline": pipeline,
}


def build(scenario: Scenario, strategy: StrategyFunction | None = None) -> tuple[Program, ...]:
    """One program per rank: of the scenario's strategy, or of a strategy function of your own."""
    write = strategy or STRATEGIES[scenario.strategy.name]
    amounts = WorkModel(scenario)
    return tuple(Program(rank, tuple(write(RankView(rank, scenario, amounts)))) for rank in range(scenario.ranks))
