"""The part of `dwdp-lab run` that needs rank processes: strategies on them, checked and profiled if wished."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from dwdp_lab.cli.figures import result_figures
from dwdp_lab.cli.output import working
from dwdp_lab.execute.before_start import check_before_start, check_graphs
from dwdp_lab.execute.failures import RankFailed
from dwdp_lab.execute.launch import RankMachineName
from dwdp_lab.execute.ranks import Ranks
from dwdp_lab.execute.run_result import RunResult
from dwdp_lab.program.build import build
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.strategy import StrategyName
from dwdp_lab.timeline.profiled import Profiled
from dwdp_lab.timeline.span import Timeline


def on_ranks(
    options: argparse.Namespace, scenario: Scenario, strategies: list[StrategyName]
) -> Iterator[tuple[Timeline, dict[str, Any], Profiled | None]]:
    """Timeline, figures and, if wished, a profiled step of each strategy. Raises RankFailed, for a wrong output too."""
    machine: RankMachineName = options.machine
    verify: bool = options.verify
    for name in strategies:  # whatever is of no use is told before anything is started
        variant = scenario.with_strategy(name)
        check_before_start(machine, variant)
        if options.graph:
            check_graphs(machine, variant, build(variant))
    starting = f"starting {scenario.ranks} rank processes"
    with working(starting) as say, Ranks(scenario.ranks, machine=machine) as ranks:

        def progress(done: float, text: str) -> None:
            say(f"{text} ({100 * done:.0f} %)")

        found: list[tuple[Timeline, dict[str, Any]]] = []
        for name in strategies:
            variant = scenario.with_strategy(name)
            result = ranks.run(variant, outputs=verify, progress=progress, graph=options.graph)
            figures = result_figures(result.timeline, result.output_sha256, result.wall_ms)
            if verify:
                say(f"{name}: comparing with the reference")
                figures["oracle"] = _verified(variant, result)
            found.append((result.timeline, figures))
        for name, (timeline, figures) in zip(strategies, found, strict=True):
            kernels = None
            if options.kernels:  # after all that is measured: a profiler slows its process down even when it has ended
                kernels = ranks.run(scenario.with_strategy(name), progress=progress, profiled=True).profiled
            yield timeline, figures, kernels


def _verified(scenario: Scenario, result: RunResult) -> dict[str, float]:
    """Every output against the reference. Raises RankFailed for the first that is out of bounds."""
    import torch

    from dwdp_lab.model.oracle import OracleMismatch, compare, error_bound, oracle

    torch.set_num_threads(1)  # small products: threads cost more than they give, many times over on a busy machine
    worst, outputs = 0.0, 0
    seed, skew = scenario.workload.seed, scenario.workload.router_skew
    for rank in range(scenario.ranks):
        for step, batch in enumerate(scenario.batches.by_rank[rank]):
            if batch and result.outputs is not None and result.routing is not None:
                try:
                    expected = oracle(scenario.model, batch, seed, skew, result.routing[rank][step])
                    worst = max(worst, compare(result.outputs[rank][step], expected.output, scenario.model))
                except OracleMismatch as mismatch:
                    raise RankFailed(rank, f"{scenario.strategy.name}, step {step}: {mismatch}") from None
                outputs += scenario.batches.tokens(rank, step)
    return {"outputs": outputs, "largest_error": worst, "bound": error_bound(scenario.model)}
