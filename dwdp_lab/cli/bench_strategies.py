"""`dwdp-lab bench strategies`: strategies over tokens per rank and imbalance, measured, each beside the best DEP."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dwdp_lab.cli.output import (
    add_json_option,
    check_json,
    check_writable,
    console_for,
    emit,
    working,
    write_text,
)
from dwdp_lab.cli.runs_tables import show_runs
from dwdp_lab.cli.scenario_options import add_scenario_options, scenario_from
from dwdp_lab.scenario.errors import ScenarioError

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from dwdp_lab.measure.runs.recorded_runs import RunsFile
    from dwdp_lab.measure.runs.strategies_run import Sitting
    from dwdp_lab.simulate.hardware import Hardware

NAMED = ("machine", "scenario", "model", "ranks", "hardware", "tokens", "cv", "links", "strategies", "repeats", "seed")
PATHS = ("scenario", "model", "hardware")


def add_to(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser of `dwdp-lab bench`."""
    parser = commands.add_parser(
        "strategies",
        help="a grid over tokens per rank, imbalance and strategies, against the best DEP",
        description="Run strategies on a grid of tokens per rank and imbalance: several times each, in random order, "
        "medians, ratios to the faster of DEP's two forms, and what pulls cost beside the computation (times over "
        "those of replicated, with the GPUs' clocks and power). The file that --json names is written after every run, "
        "so that an interrupt loses nothing; `dwdp-lab bench compare` reads it.",
    )
    parser.add_argument(
        "--machine", choices=("cpu", "cuda", "sim"), default="cpu", help="CPU ranks, one GPU each, or virtual time"
    )
    parser.add_argument("--tokens", default="256,1024", metavar="A,B", help="tokens per rank (256,1024)")
    parser.add_argument("--cv", default="0,0.3", metavar="A,B", help="imbalance: CV of the ranks' tokens (0,0.3)")
    parser.add_argument(
        "--strategies",
        default="replicated,dep,dwdp",
        metavar="A,B:KNOB=VALUE",
        help="strategies, with knobs after colons, also local_experts: dep,dwdp,dwdp:weight_view=merged "
        "(replicated,dep,dwdp)",
    )
    parser.add_argument(
        "--links", metavar="A,none", help="link_gbps: CPU ranks pace pulls to it (default: the scenario's own)"
    )
    parser.add_argument("--repeats", type=int, default=5, help="runs of each (5; virtual time needs one)")
    parser.add_argument("--seed", type=int, default=0, help="of the order of runs (0)")
    parser.add_argument(
        "--calibrate", action="store_true", help="calibrate the ranks first, and keep the profile with the runs"
    )
    parser.add_argument(
        "--picture", type=Path, metavar="FILE", help="draw DWDP over the best DEP, over tokens, as an SVG file"
    )
    parser.add_argument("--title", default="Strategies side by side", help="what the record is called")
    add_scenario_options(parser)
    add_json_option(parser)
    parser.set_defaults(call=call)


def call(options: argparse.Namespace) -> int:
    """Measure what the options ask for. Returns the exit status: 1 when a rank failed."""
    check_json(options)
    check_writable("--picture", options.picture)
    sitting = sitting_from(options)
    path = None if options.json in (None, "-") else Path(options.json).expanduser()
    kept: list[RunsFile] = []
    from dwdp_lab.execute.failures import RankFailed
    from dwdp_lab.measure.runs.recorded_runs import write_runs

    def keep(file: RunsFile) -> None:
        kept[:] = [file]
        if path is not None:
            write_runs(path, file)

    try:
        _run(sitting, options, keep)
    except RankFailed as failure:
        console_for(options).print(str(failure), style="red", markup=False)
        return 1
    finally:  # also after an interrupt
        if kept and path is None:
            emit(options, kept[0].to_dict(), lambda console: show_runs(console, kept[0]))
    if path is not None:
        show_runs(console_for(options), kept[0])
    if options.picture is not None:
        from dwdp_lab.view.charts.measured_crossover import measured_crossover

        write_text("--picture", options.picture, measured_crossover(kept[0]).svg())
    return 0


def sitting_from(options: argparse.Namespace) -> Sitting:
    """What the options ask for. Raises ScenarioError for anything that cannot be used, before anything is started."""
    from dwdp_lab.measure.runs.grid import read_variants, scenarios_of
    from dwdp_lab.measure.runs.strategies_run import Sitting

    if not 1 <= options.repeats <= 1000:
        raise ScenarioError("--repeats", options.repeats, "1 to 1000")
    if options.calibrate and (options.machine == "sim" or options.hardware is not None):
        why = (
            "virtual time has nothing to calibrate"
            if options.machine == "sim"
            else "--hardware gives a profile already"
        )
        raise ScenarioError("--calibrate", True, why, "leave it out")
    tokens = [int(value) for value in _numbers("--tokens", options.tokens)]
    cvs = _numbers("--cv", options.cv)
    # the profile is kept with the runs, whole: its path would mean nothing elsewhere
    base = scenario_from(argparse.Namespace(**{**vars(options), "hardware": None}))
    variants = read_variants(options.strategies)
    if options.picture is not None and not {"dep", "dwdp"} <= {str(one.knobs["strategy.name"]) for one in variants}:
        raise ScenarioError("--picture", str(options.picture), "draws dwdp over dep", "add both to --strategies")
    links = [base.link_gbps] if options.links is None else [_link(part) for part in options.links.split(",")]
    scenarios = scenarios_of(base, tokens, cvs, variants, links)
    return Sitting(
        options.machine, scenarios, options.repeats, options.seed, options.title, _command(options), _profile(options)
    )


def _run(sitting: Sitting, options: argparse.Namespace, keep: Any) -> None:
    from dwdp_lab.measure.runs.strategies_run import measure_grid, simulate_grid

    count = sitting.scenarios[0].ranks
    if options.machine == "sim":
        from dwdp_lab.simulate.hardware import load_hardware
        from dwdp_lab.simulate.predict import physics_for

        profile = sitting.hardware or load_hardware(sitting.scenarios[0].hardware)
        with working("simulating") as say:
            simulate_grid(
                sitting, profile, physics_for(profile), keep, lambda done, doing: say(f"{doing} ({100 * done:.0f} %)")
            )
        return
    from dwdp_lab.execute.before_start import check_before_start
    from dwdp_lab.execute.ranks import Ranks

    for scenario in sitting.scenarios:  # whatever is of no use is told before anything is started
        check_before_start(options.machine, scenario)
    with (
        working(f"starting {count} rank processes") as say,
        Ranks(count, machine=options.machine) as ranks,
    ):

        def progress(done: float, doing: str) -> None:
            say(f"{doing} ({100 * done:.0f} %)")

        if options.calibrate:
            from dwdp_lab.measure.calibration.calibrate import calibrate

            found = calibrate(ranks, sitting.command, progress)
            sitting = sitting._replace(hardware=found.profile)
        measure_grid(sitting, ranks, keep, progress)


def _profile(options: argparse.Namespace) -> Hardware | None:
    from dwdp_lab.simulate.hardware import load_hardware

    return None if options.hardware is None else load_hardware(options.hardware)


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ScenarioError(option, text, "needs numbers with commas between, such as 256,1024") from None


def _link(text: str) -> float | None:
    return None if text.strip() == "none" else _numbers("--links", text)[0]


def _command(options: argparse.Namespace) -> str:
    """The command without the folders of this machine."""
    parts = ["dwdp-lab bench strategies"]
    for name in NAMED:
        value = getattr(options, name)
        if value is not None:
            parts.append(f"--{name} {Path(value).name if name in PATHS else value}")
    parts += [f"--set '{one}'" for one in options.set]
    return " ".join([*parts, *(["--calibrate"] if options.calibrate else [])])
