"""`dwdp-lab predict`: would DWDP help this model on this machine?"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from dwdp_lab.cli.output import add_json_option, check_writable, console_for, working, write_json
from dwdp_lab.cli.scenario_options import add_scenario_options, scenario_from
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from dwdp_lab.simulate.predict import Prediction

OPTIONS: dict[str, tuple[str, str]] = {
    "isl": ("workload.isl_tokens", "input length of requests, in tokens"),
    "isl_ratio": ("workload.isl_ratio", "lengths lie between this share of --isl and --isl"),
    "isl_std": ("workload.isl_std_tokens", "lengths are normal with this standard deviation instead"),
    "mnt": ("workload.mnt_tokens", "token budget of one pass"),
    "tokens": ("workload.tokens_per_rank", "mean tokens per rank and pass (instead of --mnt)"),
    "cv": ("workload.cv", "with --tokens: imbalance, CV of the ranks' tokens"),
    "steps": ("workload.steps", "passes that are simulated"),
    "seed": ("workload.seed", "seed of lengths and routing"),
    "router_skew": ("workload.router_skew", "Zipf exponent of the experts' popularity"),
    "weight_view": ("strategy.weight_view", "merged, split or composite"),
    "slice_bytes": ("strategy.slice_bytes", "size of one copy, such as 1MiB, or none"),
    "peer_order": ("strategy.peer_order", "ascending, rotated, interleaved or permutation"),
    "local_experts": ("group.local_experts", "experts of a layer each rank keeps (L)"),
}
"""Option, the scenario's field that it sets, and its help."""

PACKED = ("isl_ratio", "isl_std", "mnt")
BY_TOKENS = ("tokens", "cv")
LIKE_THE_PAPER = {
    "kind": "isl",
    "isl_tokens": 8192,
    "isl_ratio": 0.8,
    "mnt_tokens": 32768,
    "steps": 16,
    "assign": "least_loaded",
}
"""The workload where nothing is said: the paper's (ISL 8K, ratio 0.8, MNT 32768)."""

BALANCED = {"kind": "cv", "cv": 0.0, "isl_tokens": 2048, "steps": 4}
"""The workload that --tokens and --cv change."""


def add_to(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "predict",
        help="predict every strategy's step time on some machine",
        description="Simulate every strategy for a model on a machine: step time and tokens/s per GPU, what limits "
        "each, memory per rank, from how many tokens on DWDP pays, better settings, and advice.",
    )
    parser.add_argument("--hardware", metavar="PROFILE", help="profile, or a JSON file of one (default: h100)")
    add_scenario_options(parser)
    group = parser.add_argument_group("workload and strategy (short for --set)")
    for option, (field, words) in OPTIONS.items():
        group.add_argument(f"--{option.replace('_', '-')}", metavar="X", help=f"{words} [{field}]")
    parser.add_argument("--over-ranks", metavar="2,4,8", help="group sizes of the table over N (default: 2 to 8 and N)")
    add_json_option(parser)
    parser.set_defaults(call=call)


def call(options: argparse.Namespace) -> int:
    """Predict. Returns the exit status."""
    from dwdp_lab.simulate.predict import predict

    check_writable("--json", None if options.json in (None, "-") else Path(options.json))
    scenario = predicted_scenario(options)
    sizes = _sizes(options.over_ranks)
    console = console_for(options)
    with working("simulating every strategy"):
        prediction = predict(scenario, sizes=sizes)
    write_json(options, prediction.to_dict())
    if options.json != "-":
        for table in (_strategies(prediction), _groups(prediction)):
            console.print(table)
        _say(console.print, prediction)
    return 0


def predicted_scenario(options: argparse.Namespace) -> Scenario:
    """The scenario that the options describe; without a file the workload is the paper's.

    Raises ScenarioError for options that exclude each other and for anything that cannot be used.
    """
    from dwdp_lab.simulate.paper_data import fitted_router_skew

    given = {name: value for name in OPTIONS if (value := getattr(options, name)) is not None}
    told = [name for name in given if name in PACKED]
    if told and any(name in given for name in BY_TOKENS):
        option = f"--{told[0].replace('_', '-')}"
        raise ScenarioError(option, given[told[0]], "goes with --isl, not with --tokens or --cv", "leave one out")
    assignments = [f"{OPTIONS[name][0]}={value}" for name, value in given.items()]
    if options.hardware is not None:
        assignments.append(f"hardware={options.hardware}")
    if options.scenario is None:
        workload = BALANCED if any(name in given for name in BY_TOKENS) else LIKE_THE_PAPER
        models = [one for one in options.set if one.lstrip().startswith("model")]
        skew = fitted_router_skew(scenario_from(_with_set(options, models)).model)
        assignments.insert(0, "workload=" + json.dumps(workload | {"router_skew": skew or 0.0}))
    return scenario_from(_with_set(options, assignments + options.set))


def _with_set(options: argparse.Namespace, assignments: list[str]) -> argparse.Namespace:
    return argparse.Namespace(**{**vars(options), "set": assignments})


def _sizes(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise ScenarioError("--over-ranks", text, "needs whole numbers with commas between, such as 2,4,8") from None


def _strategies(prediction: Prediction) -> Table:
    table = Table(title="milliseconds per step, mean over ranks", title_justify="left")
    table.add_column("strategy")
    for column in ("step ms", "tokens/s per GPU", "exposed copy", "wait on peers", "bound", "memory GB"):
        table.add_column(column, justify="right")
    for name, figures in prediction.strategies.items():
        table.add_row(
            name,
            f"{figures.step_ms:.4g}",
            f"{figures.tokens_per_s_per_gpu:,.0f}",
            f"{figures.exposed_copy_ms:.4g}",
            f"{figures.wait_on_peers_ms:.4g}",
            figures.bound,
            f"{prediction.memory[name].total / 1e9:.0f}",
        )
    return table


def _groups(prediction: Prediction) -> Table:
    table = Table(title="over the ranks of a group", title_justify="left")
    for column in ("N", "DEP tokens/s per GPU", "DWDP", "DWDP / DEP", "exposed copy ms", "DWDP memory GB", "fits"):
        table.add_column(column, justify="right")
    for row in prediction.over_ranks:
        table.add_row(
            str(row.ranks),
            f"{row.dep_tokens_per_s_per_gpu:,.0f}",
            f"{row.dwdp_tokens_per_s_per_gpu:,.0f}",
            f"{row.dwdp_over_dep:.3f}",
            f"{row.dwdp_exposed_copy_ms:.4g}",
            f"{row.dwdp_memory_gb:.0f}",
            "yes" if row.fits else "no",
        )
    return table


def _say(say: Any, prediction: Prediction) -> None:
    best = prediction.best
    slices = "no slices" if best.slice_bytes is None else f"slices of {best.slice_bytes / 2**20:g} MiB"
    crossover = prediction.crossover_tokens
    say(f"DWDP / DEP: {prediction.dwdp_over_dep:.3f} tokens per GPU")
    say(
        "DWDP pays from "
        + ("no number of tokens that was tried" if crossover is None else f"{crossover:,} tokens per rank and pass")
    )
    say(
        f"best found: L = {best.local_experts}, P = {best.pulled_per_peer:g}, {best.peer_order} order, {slices}: "
        f"{best.step_ms:.4g} ms a step, {best.given_ms:.4g} as given"
    )
    say(f"[bold]{prediction.advice}[/bold]")
    for what, source in prediction.provenance.items():
        say(f"  {what}: {source}", style="dim")
