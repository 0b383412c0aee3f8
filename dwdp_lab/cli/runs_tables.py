"""Runs of `bench strategies` as tables for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from dwdp_lab.cli.tables import print_table

if TYPE_CHECKING:
    from dwdp_lab.measure.runs.recorded_runs import Row, RunsFile


def show_runs(console: Console, file: RunsFile) -> None:
    """Step times and ratios to the best DEP; where `replicated` ran too, what the pulls cost beside it."""
    console.print(
        f"{file.title}: {file.provenance} on {file.ranks} {file.machine} ranks, {file.device}, {file.date[:10]}",
        markup=False,
        soft_wrap=True,
    )
    print_table(console, _steps(file))
    if any(row.step_over_replicated is not None for row in file.summary):
        print_table(console, _beside(file))
    for note in dict.fromkeys([*file.notes, *(note for run in file.runs for note in run.notes)]):
        console.print(f"- {note}", markup=False, soft_wrap=True)


def _steps(file: RunsFile) -> Table:
    table = Table()
    table.add_column("strategy")
    for column in ("tokens", "CV", "link", "step ms", "spread", "tokens/s per rank", "/ best DEP", "repeats"):
        table.add_column(column, justify="right")
    for run, row in zip(file.runs, file.summary, strict=True):
        steps = [one.step_ms for one in run.repeats]
        table.add_row(
            *_names(row),
            str(row.link_gbps or ""),
            f"{row.step_ms:.4g}",
            f"{min(steps):.4g} to {max(steps):.4g}",
            f"{row.tokens_per_s:,.0f}",
            "" if row.over_best_dep is None else f"{row.over_best_dep:.3f}",
            str(len(run.repeats)),
        )
    return table


def _beside(file: RunsFile) -> Table:
    """Clock and power stand beside the slowdowns, for they are half of the reason."""
    kinds = sorted({kind for row in file.summary for kind in row.kinds_over_replicated})
    links = len({row.link_gbps for row in file.summary}) > 1
    sensors = any(run.figures.gpu is not None for run in file.runs)
    table = Table(title="times over those of replicated", title_justify="left")
    table.add_column("strategy")
    for column in (
        "tokens",
        "CV",
        "step",
        *kinds,
        "exposed copy",
        "same bits",
        *(("MHz", "W", "throttled") if sensors else ()),
    ):
        table.add_column(column, justify="right")
    for run, row in zip(file.runs, file.summary, strict=True):
        if row.step_over_replicated is None:
            continue
        ratios = [row.kinds_over_replicated.get(kind) for kind in kinds]
        gpu = run.figures.gpu
        looks = (
            [] if gpu is None else [f"{gpu.sm_mhz or 0:.0f}", f"{gpu.power_w or 0:.0f}", f"{gpu.throttled_pct:.0f} %"]
        )
        table.add_row(
            *_names(row),
            *([str(row.link_gbps or "")] if links else []),
            f"{row.step_over_replicated:.3f}",
            *("" if ratio is None else f"{ratio:.3f}" for ratio in ratios),
            f"{row.exposed_copy_pct or 0.0:.1f} %",
            {None: "", True: "yes", False: "no"}[row.same_bits],
            *looks,
        )
    return table


def _names(row: Row) -> tuple[str, str, str]:
    return row.strategy.replace(":", " "), f"{row.tokens or 0:,}", f"{row.cv or 0:g}"
