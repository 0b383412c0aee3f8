"""Several strategies on one scenario, one after another on the same ranks."""

from __future__ import annotations

from collections.abc import Sequence

from dwdp_lab.execute.launch import RankMachineName
from dwdp_lab.execute.ranks import OnProgress, Ranks
from dwdp_lab.execute.run_result import RunResult
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.strategy import StrategyName


def run_on_ranks(
    machine: RankMachineName,
    scenario: Scenario,
    strategies: Sequence[StrategyName],
    ranks: Ranks | None = None,
    progress: OnProgress | None = None,
    outputs: bool = False,
) -> dict[str, RunResult]:
    """Results by strategy. Without `ranks` a group is started for this and stopped at the end.

    `progress` counts over all strategies. Raises what `Ranks.run` raises, and ScenarioError for ranks of another
    machine.
    """
    if ranks is not None and ranks.machine != machine:
        raise ScenarioError("ranks", ranks.machine, f"ranks of the machine {machine} are needed", "leave ranks out")
    group = Ranks(scenario.ranks, machine=machine) if ranks is None else ranks
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
