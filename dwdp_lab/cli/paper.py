"""`dwdp-lab paper`: the paper's numbers beside the simulator's."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table as Printed

from dwdp_lab.cli.output import add_json_option, check_json, emit, working
from dwdp_lab.cli.tables import print_table

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from dwdp_lab.simulate.paper import Compared, Table
    from dwdp_lab.simulate.paper_account import Summary
    from dwdp_lab.simulate.paper_candidates import Candidate


def add_to(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "paper",
        help="compare the simulator with the paper",
        description="Every number of the paper's roofline and of its Tables 1 to 4 and 7, and what others measured, "
        "beside the simulator's. Free numbers are fitted to Tables 1 and 7 only (marked); the others are predictions.",
    )
    parser.add_argument(
        "--candidates",
        action="store_true",
        help="what might explain the errors of Tables 3 and 4: each built in alone (about a minute more)",
    )
    add_json_option(parser)
    parser.set_defaults(call=call)


def call(options: argparse.Namespace) -> int:
    """Compare. Returns the exit status."""
    from dwdp_lab.simulate.paper import compare_with_paper
    from dwdp_lab.simulate.paper_account import account, summarise
    from dwdp_lab.simulate.paper_candidates import candidates

    check_json(options)
    with working("simulating") as say:
        tables = compare_with_paper(lambda name: say(f"simulating {name}"))
        tried = candidates(lambda name: say(f"trying: {name}")) if options.candidates else ()
    summary, missing = summarise(tables), account(tables)

    def show(console: Console) -> None:
        for table in tables:
            print_table(console, _printed(table))
        print_table(console, _summary(summary))
        for paragraph in missing:
            console.print(f"- {paragraph}")
        if tried:
            print_table(console, _tried(tried))
            for one in tried:
                console.print(f"- {one.name}: {one.words}")

    emit(options, figures(tables, summary, missing, tried), show)
    return 0


def figures(
    tables: Sequence[Table], summary: Sequence[Summary], missing: Sequence[str], tried: Sequence[Candidate] = ()
) -> dict[str, Any]:
    """The form that `--json` writes; null stands for what is kept back or not simulated."""
    return {
        "provenance": "simulated with all effects on the profile gb200; rows marked fitted decided that profile; "
        "measured elsewhere: simulated on the profiles b200 (its shares taken over from gb200) and mi355x (data sheet)",
        "tables": [
            {
                "name": table.name,
                "title": table.title,
                "source": table.source,
                "rows": [
                    asdict(row) | {"error": row.error, "relative_error": row.relative_error} for row in table.rows
                ],
            }
            for table in tables
        ],
        "summary": [asdict(one) for one in summary],
        "account": list(missing),
        "candidates": [asdict(one) for one in tried],
    }


def _printed(table: Table) -> Printed:
    shown = Printed(title=f"{table.name}: {table.title}", title_justify="left")
    shown.add_column("cell")
    shown.add_column("number")
    for column in ("paper", "simulated", "error", ""):
        shown.add_column(column, justify="right")
    for row in table.rows:
        unit = f" ({row.unit})" if row.unit not in ("", "x") else ""
        shown.add_row(row.cell, row.quantity + unit, *_figures(row))
    return shown


def _figures(row: Compared) -> tuple[str, str, str, str]:
    paper = f"{row.paper:.4g}" if row.paper is not None else "kept back" if row.kept_back else "-"
    simulated = "-" if row.simulated is None else f"{row.simulated:.4g}"
    error = "-"
    if row.error is not None and row.unit == "x":
        error = f"{row.error:+z.3f}"
    elif row.relative_error is not None:
        error = f"{100 * row.relative_error:+z.1f} %"
    return paper, simulated, error, "fitted" if row.fitted else ""


def _summary(summary: Sequence[Summary]) -> Printed:
    shown = Printed(title="errors", title_justify="left")
    shown.add_column("numbers")
    for column in ("count", "mean absolute", "worst", "at"):
        shown.add_column(column, justify="right")
    for one in summary:
        words = [f"{100 * e:z.1f} %" if one.relative else f"{e:z.3f}" for e in (one.mean_absolute, one.worst)]
        shown.add_row(one.name, str(one.numbers), *words, one.worst_cell)
    return shown


def _tried(tried: Sequence[Candidate]) -> Printed:
    shown = Printed(title="tokens per GPU in Tables 3 and 4, with one thing more", title_justify="left")
    shown.add_column("cell")
    for one in tried:
        shown.add_column(one.name, justify="right")
    for cell in tried[0].ratios:
        shown.add_row(cell, *[f"{one.ratios[cell]:.3f}" for one in tried])
    shown.add_section()
    shown.add_row("mean absolute error", *[f"{one.mean_absolute:.3f}" for one in tried])
    shown.add_row("worst", *[f"{one.worst:+z.3f}" for one in tried])
    return shown
