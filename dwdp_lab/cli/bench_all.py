"""`dwdp-lab bench all`: everything the lab records of a machine, a file each, in one call."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from dwdp_lab.cli.output import add_json_option, check_json, console_for, working, write_json
from dwdp_lab.cli.tables import print_table
from dwdp_lab.scenario.errors import ScenarioError, nearest

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from dwdp_lab.measure.all_parts import Part
    from dwdp_lab.measure.run_parts import Outcome


def add_to(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser of `dwdp-lab bench`."""
    parser = commands.add_parser(
        "all",
        help="everything the lab records of a machine, a file each",
        description="Check, calibrate and measure this machine: doctor, copies, a hardware profile, strategies over "
        "tokens and imbalance, DWDP's variants, contention, predicted against measured, and kernels on GPUs. Each part "
        "is a command of the lab that you could run alone, and leaves its JSON and its log in the folder. A part that "
        "fails does not keep the others from running.",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where the files go; made if it is not there")
    parser.add_argument("--machine", choices=("cpu", "cuda"), default="cpu", help="CPU ranks (default), or GPUs")
    parser.add_argument("--ranks", type=int, default=2, metavar="N", help="ranks of the group (2)")
    parser.add_argument("--minutes", type=float, metavar="M", help="stop after so many (default: when all is measured)")
    parser.add_argument("--only", metavar="A,B", help="these parts alone")
    parser.add_argument(
        "--quick", action="store_true", help="seconds each, to try it out; the figures are worth nothing"
    )
    add_json_option(parser)
    parser.set_defaults(call=call)


def call(options: argparse.Namespace) -> int:
    """Run the parts. Returns the exit status: 1 when one has failed."""
    check_json(options)
    chosen, folder = chosen_parts(options), options.folder.expanduser()
    if folder.exists() and not folder.is_dir():
        raise ScenarioError("FOLDER", str(options.folder), "is a file", "name a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ScenarioError("FOLDER", str(options.folder), f"cannot be made: {error.strerror}") from None
    from dwdp_lab.measure.run_parts import run_parts

    console = console_for(options)
    ended: list[Outcome] = []
    seconds = None if options.minutes is None else 60.0 * options.minutes
    with working("starting") as say:
        for outcome in run_parts(chosen, folder, seconds, lambda part: say(f"measuring {part.name}")):
            ended.append(outcome)
            _tell(console, outcome)
    write_json(options, {"parts": [_plain(one) for one in ended]})
    if options.json != "-":
        print_table(console, _table(ended))
    return int(any(one.status == "failed" for one in ended))


def chosen_parts(options: argparse.Namespace) -> tuple[Part, ...]:
    """What the options ask for. Raises ScenarioError before anything is started."""
    from dwdp_lab.measure.all_parts import parts

    if not 2 <= options.ranks <= 64:
        raise ScenarioError("--ranks", options.ranks, "2 to 64: one rank has nobody to pull from")
    if options.minutes is not None and not 0 < options.minutes <= 24 * 60:
        raise ScenarioError("--minutes", options.minutes, "above 0, and a day at most")
    known = {part.name: part for part in parts(options.machine, options.ranks, options.quick)}
    if options.only is None:
        return tuple(known.values())
    names = [name.strip() for name in options.only.split(",")]
    for name in names:
        if name not in known:
            raise ScenarioError("--only", name, f"parts are {', '.join(known)}", nearest(name, known))
    return tuple(part for part in known.values() if part.name in names)


def _tell(console: Console, outcome: Outcome) -> None:
    words = f"{outcome.part.name}: {outcome.status} after {outcome.seconds:.0f} s"
    console.print(words, style={"done": "green", "failed": "red"}.get(outcome.status, "yellow"), markup=False)
    if outcome.status == "failed":
        console.print(outcome.last_words, markup=False, soft_wrap=True)


def _plain(outcome: Outcome) -> dict[str, object]:
    command = " ".join(("dwdp-lab", *outcome.part.words))
    return {
        "part": outcome.part.name,
        "status": outcome.status,
        "seconds": round(outcome.seconds, 1),
        "command": command,
    }


def _table(ended: list[Outcome]) -> Table:
    table = Table()
    for column in ("part", "ended", "seconds", "command"):
        table.add_column(column, justify="right" if column == "seconds" else "left")
    for one in ended:
        plain = _plain(one)
        table.add_row(one.part.name, one.status, f"{one.seconds:.0f}", str(plain["command"]))
    return table
