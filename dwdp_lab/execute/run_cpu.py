"""Several strategies on one scenario, one after another on the same CPU ranks."""

from __future__ import annotations

from collections.abc import Sequence

from dwdp_lab.execute.ranks import OnProgress, Ranks
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
    group = Ranks(scenario.ranks) if ranks is None else ranks
    results: dict[str, RunResult] = {}
    try:
        for number, name in enumerate(strategies):
            report = _part(progress, number, len(strategies)) if progress is not None else None
            results[name] = group.run(scenario.with_strategy(name), outputs=outputs, progress=report)
    finally:
        if ranks is None:
            group.stop()
    return results


def _part(progress: OnProgress, number: int, count: int) -> OnProgress:
    return lambda share, doing: progress((number + share) / count, doing)
