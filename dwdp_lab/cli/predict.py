"""`dwdp-lab predict`: would DWDP help this model on this machine?"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.console import Console

from dwdp_lab.cli import predict_tables as tables
from dwdp_lab.cli.output import add_json_option, check_json, emit, working
from dwdp_lab.cli.scenario_options import add_physics_option, add_scenario_options, physics_from, scenario_from
from dwdp_lab.cli.tables import print_table
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario

if TYPE_CHECKING:
    from argparse import _SubParsersAction

OPTIONS: dict[str, tuple[str, str]] = {
    "isl": ("workload.isl_tokens", "input length of requests, in tokens"),
    "isl_ratio": ("workload.isl_ratio", "lengths lie between this share of --isl and --isl"),
    "isl_std": ("workload.isl_std_tokens", "lengths are normal with this standard deviation instead"),
    "mnt": ("workload.mnt_tokens", "token budget of one pass; a longer request is cut into several"),
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

IN_FLIGHT = 2
"""Slices of a rank under way at once (arXiv 2604.01621, section 4.3.2)."""

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
    add_scenario_options(parser)
    add_physics_option(parser, "default: realistic where the profile says what the machine reaches, else bound")
    group = parser.add_argument_group("workload and strategy (short for --set)")
    for option, (field, words) in OPTIONS.items():
        group.add_argument(f"--{option.replace('_', '-')}", metavar="X", help=f"{words} [{field}]")
    parser.add_argument("--over-ranks", metavar="2,4,8", help="group sizes of the table over N (default: 2 to 8 and N)")
    parser.add_argument(
        "--waves", action="store_true", help="follow every slice: what each peer order reaches of the links"
    )
    parser.add_argument(
        "--small-batches", action="store_true", help="pull all experts against only those that tokens are routed to"
    )
    add_json_option(parser)
    parser.set_defaults(call=call)


def call(options: argparse.Namespace) -> int:
    """Predict. Returns the exit status."""
    from dwdp_lab.simulate.predict import physics_for, predict
    from dwdp_lab.simulate.routed_pulls import over_batches
    from dwdp_lab.simulate.waves import link_shares

    check_json(options)
    scenario = predicted_scenario(options)
    sizes, physics = _sizes(options.over_ranks), physics_from(options)
    with working("simulating every strategy") as say:
        prediction = predict(scenario, sizes=sizes, physics=physics, say=say)
        say("following every slice, and small batches")
        shares = link_shares(scenario, IN_FLIGHT) if options.waves else ()
        effects = physics or physics_for(prediction.hardware)
        rows = over_batches(scenario, prediction.hardware, effects) if options.small_batches else ()

    def show(console: Console) -> None:
        shown = [tables.strategies(prediction), tables.groups(prediction), tables.tried(prediction)]
        shown += [tables.waves(shares, IN_FLIGHT)] if shares else []
        shown += [tables.small_batches(rows)] if rows else []
        tables.say_scenario(console.print, prediction)
        for table in shown:
            print_table(console, table)
        tables.say_best(console.print, prediction)

    figures = prediction.to_dict()
    figures["details"]["waves"] = [asdict(one) for one in shares]
    figures["details"]["small_batches"] = [asdict(row) | {"best": row.best} for row in rows]
    emit(options, figures, show)
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
    if "isl" in given and "cv" in given and "tokens" not in given:
        raise ScenarioError(
            "--cv", given["cv"], "needs --tokens beside it, the mean tokens per rank and pass", "give both, or neither"
        )
    assignments = [f"{OPTIONS[name][0]}={value}" for name, value in given.items()]
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
