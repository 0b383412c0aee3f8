"""`dwdp-lab bench compare`: runs that were kept beside what the simulator predicts for them."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from dwdp_lab.cli.output import add_json_option, check_json, check_writable, emit, working, write_text
from dwdp_lab.cli.tables import print_table
from dwdp_lab.scenario.errors import ScenarioError

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from dwdp_lab.measure.runs.predicted_runs import Errors, PredictedRun
    from dwdp_lab.measure.runs.recorded_runs import RunsFile

    Compared = dict[str, tuple[RunsFile, tuple[PredictedRun, ...], Errors]]


def add_to(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser of `dwdp-lab bench`."""
    parser = commands.add_parser(
        "compare",
        help="predicted against measured, for every run that was kept",
        description="Simulate every run of the given files on the profile that their machine was calibrated to, and "
        "compare: step times, and whether DWDP beats DEP.",
    )
    parser.add_argument("files", nargs="*", metavar="RUNS", help="files of runs, or names in data/measured (all)")
    parser.add_argument("--hardware", metavar="PROFILE", help="predict with this profile instead of the file's own")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw predicted over measured as an SVG file")
    add_json_option(parser)
    parser.set_defaults(call=call)


def call(options: argparse.Namespace) -> int:
    """Compare. Returns the exit status."""
    check_json(options)
    check_writable("--picture", options.picture)
    from dwdp_lab.measure.runs.predicted_runs import errors_of, predict_runs
    from dwdp_lab.measure.runs.recorded_runs import kept_runs, read_runs
    from dwdp_lab.simulate.hardware import load_hardware

    names = options.files or list(kept_runs())
    if not names:
        raise ScenarioError("runs", names, "no runs are kept in data/measured", "name a file of `bench strategies`")
    profile = None if options.hardware is None else load_hardware(options.hardware)
    compared: Compared = {}
    for name in names:
        file = read_runs(name)
        with working(f"predicting {name}"):
            rows = predict_runs(file, profile)
        if not rows:
            raise ScenarioError(f"{Path(name).name}: runs", [], "has no run to compare")
        compared[Path(name).stem] = (file, rows, errors_of(rows))
    if options.picture is not None:
        from dwdp_lab.view.charts.predicted_measured import predicted_measured

        chart = predicted_measured([(file, rows) for file, rows, _ in compared.values()])
        write_text("--picture", options.picture, chart.svg())
    emit(options, figures(compared), lambda console: show(console, compared))
    return 0


def figures(compared: Compared) -> dict[str, Any]:
    """The form that `--json` writes."""
    return {
        name: {
            "provenance": file.shown_provenance,
            "machine": file.machine,
            "errors": asdict(errors),
            "rows": [
                {
                    "strategy": row.label,
                    "workload": row.run.scenario["workload"],
                    "link_gbps": row.run.scenario["link_gbps"],
                    "measured_ms": row.run.figures.step_ms,
                    "predicted_ms": row.predicted.step_ms,
                    "error": row.error,
                    "measured_over_dep": row.measured_over_dep,
                    "predicted_over_dep": row.predicted_over_dep,
                    "tells": row.tells,
                    "right": row.right if row.tells else None,
                    "repeats": len(row.run.repeats),
                }
                for row in rows
            ],
        }
        for name, (file, rows, errors) in compared.items()
    }


def show(console: Console, compared: Compared) -> None:
    """A table per file, and the errors."""
    for name, (file, rows, errors) in compared.items():
        console.print(f"{name}: {file.title}; {file.shown_provenance}", markup=False, soft_wrap=True)
        print_table(console, _table(rows))
        signs = f"{errors.signs_right} of {errors.signs}" if errors.signs else "none that tells"
        console.print(
            f"{errors.runs} runs: median error {100 * errors.median:.1f} %, worst {100 * errors.worst:+z.1f} % "
            f"({errors.worst_at}); {errors.spread_words}; faster or slower than DEP predicted right: {signs}",
            markup=False,
            soft_wrap=True,
        )


def _table(rows: tuple[PredictedRun, ...]) -> Table:
    table = Table(title="milliseconds per step, and tokens/s over the best DEP's", title_justify="left")
    table.add_column("strategy")
    for column in ("tokens", "CV", "link", "measured", "predicted", "error", "/ DEP", "predicted"):
        table.add_column(column, justify="right")
    for row in rows:
        workload = row.run.scenario["workload"]
        ratios = (row.measured_over_dep, row.predicted_over_dep)
        table.add_row(
            row.label.replace(":", " "),
            f"{workload.get('tokens_per_rank', 0):,}",
            f"{workload.get('cv', 0):g}",
            str(row.run.scenario["link_gbps"] or ""),
            f"{row.run.figures.step_ms:.4g}",
            f"{row.predicted.step_ms:.4g}",
            f"{100 * row.error:+z.1f} %",
            *("" if ratio is None else f"{ratio:.3f}" for ratio in ratios),
        )
    return table
