"""`dwdp-lab calibrate`: measure this machine, and write the profile that the simulator predicts it with."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from dwdp_lab.cli.output import add_json_option, check_json, check_writable, console_for, emit, working, write_text
from dwdp_lab.cli.tables import print_table
from dwdp_lab.scenario.errors import ScenarioError

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from dwdp_lab.measure.calibration.calibrate import Calibrated


def add_to(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "calibrate",
        help="measure what this machine reaches, for the simulator",
        description="Measure products, attention, copies, collectives and how they disturb each other, on all ranks at "
        "once (on GPUs also what is slower in steps that last), and fit the simulator's parameters to it: one to two "
        "minutes. Leave the machine alone meanwhile.",
    )
    parser.add_argument("--machine", choices=("cpu", "cuda"), default="cpu", help="CPU ranks, or one GPU each")
    parser.add_argument("--ranks", type=int, default=2, metavar="N", help="ranks of the group (2)")
    parser.add_argument(
        "--out", type=Path, metavar="PROFILE", help="where the profile goes (calibrated-MACHINE.json in this folder)"
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the measurements, to try the command out")
    add_json_option(parser)
    parser.set_defaults(call=call)


def call(options: argparse.Namespace) -> int:
    """Calibrate. Returns the exit status: 1 when a rank failed."""
    if not 2 <= options.ranks <= 64:
        raise ScenarioError("--ranks", options.ranks, "2 to 64: one rank has nobody to pull from")
    out = options.out or Path(f"calibrated-{options.machine}.json")
    check_json(options)
    check_writable("--out", out)
    from dwdp_lab.execute.failures import RankFailed
    from dwdp_lab.execute.ranks import Ranks
    from dwdp_lab.measure.calibration.calibrate import calibrate

    command = f"dwdp-lab calibrate --machine {options.machine} --ranks {options.ranks}" + " --quick" * options.quick
    try:
        with (
            working(f"starting {options.ranks} rank processes") as say,
            Ranks(options.ranks, machine=options.machine) as ranks,
        ):
            found = calibrate(
                ranks, command, lambda done, doing: say(f"{doing} ({100 * done:.0f} %)"), quick=options.quick
            )
    except RankFailed as failure:
        console_for(options).print(str(failure), style="red", markup=False)
        return 1
    profile = found.profile.model_dump(mode="json", exclude_none=True)
    write_text("--out", out, json.dumps(profile, indent=1, ensure_ascii=False) + "\n")
    emit(options, found.to_dict(), lambda console: show(console, found, out))
    return 0


def show(console: Console, found: Calibrated, out: Path) -> None:
    """What was found, and where it is."""
    from dwdp_lab.simulate.cost import MEMORY_UNITS

    profile, reached = found.profile, found.profile.reached
    table = Table(title=f"{profile.title}: calibrated", title_justify="left")
    table.add_column("what")
    table.add_column("reached", justify="right")
    for precision in found.samples.peaks.tflops:  # the profile has rates that were not measured too
        table.add_row(f"best product, {precision}", f"{profile.tflops[precision].value:.4g} TFLOP/s")
    for precision, rate in found.found.rates.items():
        table.add_row(f"experts in {precision}", f"{rate.tflops:.4g} TFLOP/s, if the unit reaches as much of it")
    table.add_row("copy within a rank", f"{profile.hbm_gbps.value:.4g} GB/s read and written")
    table.add_row("pulls", f"{profile.link_gbps.value:.4g} GB/s")
    table.add_row("smallest launch", f"{found.samples.launch_us:.3g} us")
    if reached is not None:
        for unit, share in reached.efficiency.items():
            # more than all of it is possible: some kernels read from caches what a large copy has to read from memory
            peak = "the copy's rate" if unit in MEMORY_UNITS else "the best product"
            table.add_row(f"unit {unit}", f"{100 * share.value:.3g} % of {peak}")
        for kind, operation in reached.operations.items():
            unfused, fixed = operation.activations, operation.fixed_us
            words = [f"activations at {100 * unfused.value:.3g} %"] if unfused is not None else []
            words += [f"{fixed.value:.3g} us each"] if fixed is not None else []
            table.add_row(f"operation {kind}", ", ".join(words))
        if reached.half_rows is not None:
            table.add_row("rows per expert for half of it", f"{reached.half_rows.value:.3g}")
        for kind, exchange in reached.exchanges.items():
            gbps = exchange.share.value * profile.link_gbps.value
            table.add_row(kind, f"{gbps:.4g} GB/s, {exchange.fixed_us.value:.3g} us each")
        for unit, ratio in reached.copy_slowdown.items():
            table.add_row(f"{unit} beside a pull", f"{ratio.value:.3f} times as long")
        if reached.lasting is not None:
            for kind, longer in reached.lasting.compute.items():
                table.add_row(f"{kind} in steps that last", f"{longer.value:.3f} times as long")
            if reached.lasting.copies is not None:
                copies = f"{reached.lasting.copies.value:.3f} times as long again"
                table.add_row("compute beside a pull in steps that last", copies)
            table.add_row("steps last after", f"{reached.lasting.after_ms.value:.3g} ms of full load")
    print_table(console, table)
    passes = "a single pass" if found.spread is None else f"passes differ by {100 * found.spread:.0f} %"
    errors = ", ".join(f"{name} {100 * error:.1f} %" for name, error in found.errors().items())
    console.print(
        f"median error of the fit to its own samples: {errors}; {passes}; {found.seconds:.0f} s",
        soft_wrap=True,
    )
    for note in profile.calibration.notes if profile.calibration is not None else ():
        console.print(f"- {note}", markup=False, soft_wrap=True)
    console.print(f"written to {out}; use it with --hardware {out}", markup=False, soft_wrap=True)
