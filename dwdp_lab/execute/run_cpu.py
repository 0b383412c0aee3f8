"""Strategies on CPU ranks."""

from __future__ import annotations

from collections.abc import Sequence

from dwdp_lab.execute.ranks import OnProgress, Ranks
from dwdp_lab.execute.run_on_ranks import run_on_ranks
from dwdp_lab.execute.run_result import RunResult
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.strategy import StrategyName


def run_cpu(
    scenario: Scenario,
    strategies: Sequence[StrategyName],
    ranks: Ranks | None = None,
    progress: OnProgress | None = None,
    outputs: bool = False,
) -> dict[str, RunResult]:
    """Results by strategy. Without `ranks` a group is started for this and stopped at the end.

    `progress` counts over all strategies. Raises what `Ranks.run` raises.
    """
    return run_on_ranks("cpu", scenario, strategies, ranks, progress, outputs)
