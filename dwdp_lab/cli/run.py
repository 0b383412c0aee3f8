"""`dwdp-lab run`: one scenario, some strategies, on the simulator or on rank processes."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from dwdp_lab.cli.figures import result_figures
from dwdp_lab.cli.output import (
    add_json_option,
    check_json,
    check_writable,
    console_for,
    emit,
    short,
    working,
    write_text,
)
from dwdp_lab.cli.scenario_options import add_physics_option, add_scenario_options, physics_from, scenario_from
from dwdp_lab.cli.tables import print_table
from dwdp_lab.program.build import STRATEGIES
from dwdp_lab.scenario.errors import ScenarioError, nearest
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.strategy import StrategyName
from dwdp_lab.simulate.physics import BOUND, Physics
from dwdp_lab.timeline.chrome_trace import chrome_trace
from dwdp_lab.timeline.profiled import Profiled
from dwdp_lab.timeline.span import Timeline
from dwdp_lab.timeline.svg import timeline_svg

if TYPE_CHECKING:
    from argparse import _SubParsersAction

Outcome = tuple[Timeline, dict[str, Any], Profiled | None]


def add_to(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "run",
        help="run strategies on one scenario",
        description="Run strategies on one scenario and compare them.",
    )
    parser.add_argument(
        "--machine", choices=("sim", "cpu", "cuda"), default="sim", help="virtual time, or ranks on CPU cores or GPUs"
    )
    parser.add_argument("--strategies", metavar="A,B", help=f"of {', '.join(STRATEGIES)} (default: the scenario's own)")
    add_scenario_options(parser)
    add_physics_option(parser, "default: bound")
    add_json_option(parser)
    parser.add_argument("--trace", type=Path, metavar="FILE", help="write a Chrome trace (opens in Perfetto)")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the timelines")
    parser.add_argument("--save", type=Path, metavar="FILE", help="keep the runs: the control room opens them")
    parser.add_argument(
        "--verify", action="store_true", help="ranks: compare every output with the slow dense reference"
    )
    parser.add_argument(
        "--graph", action="store_true", help="GPU ranks: capture each step, and replay it as a CUDA graph"
    )
    parser.add_argument(
        "--kernels",
        action="store_true",
        help="ranks: run a step once more under torch.profiler, and add its kernels to --trace",
    )
    parser.set_defaults(call=call)


def call(options: argparse.Namespace) -> int:
    """Run what the options ask for. Returns the exit status."""
    console = console_for(options)
    scenario = scenario_from(options)
    strategies = _strategies(options.strategies, scenario)
    if options.verify and options.machine == "sim":
        raise ScenarioError("--verify", "sim", "the simulator computes no outputs", "add --machine cpu")
    if options.graph and options.machine == "sim":
        raise ScenarioError("--graph", "sim", "the simulator queues nothing on a GPU", "add --machine cuda")
    if options.kernels and options.machine == "sim":
        raise ScenarioError("--kernels", "sim", "the simulator runs no kernels", "add --machine cpu")
    if options.kernels and options.trace is None:
        raise ScenarioError("--kernels", True, "kernels are shown in a trace", "add --trace FILE")
    physics = physics_from(options)
    if physics is not None and options.machine != "sim":
        raise ScenarioError("--physics", options.physics, f"{options.machine} ranks are measured", "add --machine sim")
    check_json(options)
    for option in ("trace", "svg", "save"):
        check_writable(f"--{option}", getattr(options, option))
    outcomes: list[Outcome]
    if options.machine == "sim":
        outcomes = list(_simulated(scenario, strategies, physics or BOUND))
    else:
        from dwdp_lab.cli.run_ranks import on_ranks
        from dwdp_lab.execute.failures import RankFailed

        try:
            outcomes = list(on_ranks(options, scenario, strategies))
        except RankFailed as failure:
            console.print(str(failure), style="red", markup=False)
            return 1
    timelines = [timeline for timeline, _, _ in outcomes]
    results = [result for _, result, _ in outcomes]
    figures = {"scenario": scenario.to_dict(), "results": results}
    if options.trace is not None:
        trace = chrome_trace(timelines, [profiled for _, _, profiled in outcomes])
        write_text("--trace", options.trace, json.dumps(trace, allow_nan=False))
    if options.svg is not None:
        write_text("--svg", options.svg, timeline_svg(timelines))
    if options.save is not None:
        write_text("--save", options.save, _kept(scenario, timelines) + "\n")
    emit(options, figures, lambda console: _show(console, results))
    return 0


def _show(console: Console, results: list[dict[str, Any]]) -> None:
    """The table, and what a reader must know beside it: which profile and physics, or who shared a core."""
    print_table(console, _table(results))
    for note in dict.fromkeys(note for result in results for note in result["notes"]):
        console.print(f"- {note}", markup=False, soft_wrap=True)


def _kept(scenario: Scenario, timelines: list[Timeline]) -> str:
    from dwdp_lab.view.control.history import History

    history = History()
    for timeline in timelines:
        history.add(timeline, scenario.with_strategy(next(name for name in STRATEGIES if name == timeline.strategy)))
    return history.to_text()


def _strategies(text: str | None, scenario: Scenario) -> list[StrategyName]:
    names = [scenario.strategy.name] if text is None else [name.strip() for name in text.split(",")]
    chosen: list[StrategyName] = []
    for name in names:
        known = next((known for known in STRATEGIES if known == name), None)
        if known is None:
            raise ScenarioError("--strategies", name, f"known are {', '.join(STRATEGIES)}", nearest(name, STRATEGIES))
        if known not in chosen:
            chosen.append(known)
    return chosen


def _simulated(scenario: Scenario, strategies: list[StrategyName], physics: Physics) -> Iterator[Outcome]:
    from dwdp_lab.simulate.run import run_sim

    with working("simulating") as say:
        for name in strategies:
            say(f"simulating {name}")
            began = time.perf_counter()
            timeline = run_sim(scenario.with_strategy(name), physics=physics)
            figures = result_figures(timeline, [], 0.0)
            figures["wall_ms"] = 1e3 * (time.perf_counter() - began)
            yield timeline, figures, None


COLUMNS = {
    "step ms": "step_ms",
    "compute": "compute_ms",
    "exchange": "communication_ms",
    "exposed\ncopy": "exposed_copy_ms",
    "wait on\npeers": "wait_on_peers_ms",
    "overlap %": "overlap_pct",
    "tokens/s": "tokens_per_s_per_rank",
}


def _table(results: list[dict[str, Any]]) -> Table:
    table = Table(title="milliseconds per step, mean over ranks", title_justify="left")
    table.add_column("strategy", no_wrap=True)
    for column in COLUMNS:
        table.add_column(column, justify="right")
    table.add_column("provenance")  # this may wrap, rather than figures lose digits
    for result in results:
        table.add_row(
            result["strategy"],
            *(short(result[name]) for name in COLUMNS.values()),
            f"{result['provenance']} ({result['machine']})",
        )
    return table
