"""`dwdp-lab doctor`: whether this machine can run the lab, and what to do where it cannot."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dwdp_lab.cli.output import add_json_option, check_json, emit, working

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from dwdp_lab.doctor.report import Report

COLOUR = {"ok": "green", "warn": "yellow", "fail": "red"}


def add_to(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "doctor",
        help="check this machine",
        description="Check what of the lab this machine can run: Python, packages, Jupyter and its widgets, rank "
        "processes, GPUs and what they can do with each other. Each line says ok, warn or fail, what it means for the "
        "lab, and what to do. Takes half a minute at most and changes nothing. Exit status 0 when the simulator and "
        "the notebooks run, 1 when they do not.",
    )
    add_json_option(parser)
    parser.set_defaults(call=call)


def call(options: argparse.Namespace) -> int:
    """Check and report. Returns the exit status."""
    from dwdp_lab.doctor.check_machine import check_machine

    check_json(options)
    with working("looking at this machine") as say:
        report = check_machine(say=lambda what: say(f"looking at {what}"))

    def show(console: Console) -> None:
        console.print(_table(report))
        console.print(report.summary, markup=False)

    emit(options, report.to_dict(), show)
    return 0 if report.usable else 1


def _table(report: Report) -> Table:
    table = Table(show_lines=False, pad_edge=False)
    table.add_column("")
    table.add_column("check", max_width=22)
    table.add_column("found", ratio=2)
    table.add_column("what it means for the lab", ratio=3)
    for finding in report.worst_first:
        colour = COLOUR[finding.level]
        fix = f"\n[bold]Fix: {escape(finding.fix)}[/bold]" if finding.level != "ok" else ""
        table.add_row(
            f"[{colour}]{finding.level}[/{colour}]",
            escape(finding.name),
            escape(finding.found),
            escape(finding.meaning) + fix,
        )
    return table
