"""Strategies on GPU ranks."""

from __future__ import annotations

from collections.abc import Sequence

from dwdp_lab.execute.ranks import OnProgress, Ranks
from dwdp_lab.execute.run_on_ranks import run_on_ranks
from dwdp_lab.execute.run_result import RunResult
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.strategy import StrategyName


def run_cuda(
    scenario: Scenario,
    strategies: Sequence[StrategyName],
    ranks: Ranks | None = None,
    progress: OnProgress | None = None,
    outputs: bool = False,
) -> dict[str, RunResult]:
    """Results by strategy. Without `ranks` a group is started for this and stopped at the end.

    Ranks share GPUs where there are fewer of these, and the timeline's notes say so. `progress` counts over all
    strategies. Raises what `Ranks.run` raises; ScenarioError, before anything is started, where no GPU can be used.
    """
    return run_on_ranks("cuda", scenario, strategies, ranks, progress, outputs)
