"""What `bench strategies` measured on two GPUs and data/measured/ keeps: DWDP over DEP, and what pulls cost compute."""

from __future__ import annotations

from dwdp_lab.measure.runs.figures import Figures
from dwdp_lab.measure.runs.over_replicated import over_replicated
from dwdp_lab.measure.runs.recorded_runs import RunsFile, read_runs
from dwdp_lab.teach.shown import Text, table
from dwdp_lab.view.charts.chart import Chart
from dwdp_lab.view.charts.measured_crossover import measured_crossover

TOKENS, IMBALANCE = "h200-pair-tokens", "h200-pair-imbalance"


def recorded_crossover() -> Chart:
    """DWDP's tokens/s over the best DEP's on two H200s, and what a profile calibrated there predicts."""
    tokens, imbalance = read_runs(TOKENS), read_runs(IMBALANCE)
    return measured_crossover(tokens.model_copy(update={"runs": [*tokens.runs, *imbalance.runs]}))


def recorded_interference(file: RunsFile | None = None) -> Text:
    """DWDP's times over those of `replicated`, by tokens per rank, with the clocks and the power of both."""
    file = file or read_runs(TOKENS)
    usual = {run.cell: run.figures for run in file.runs if run.scenario["strategy"]["name"] == "replicated"}
    rows = []
    for run, over in zip(file.runs, over_replicated(file.runs), strict=True):
        if run.scenario["strategy"]["name"] != "dwdp" or over is None:
            continue
        figures = run.figures
        rows.append(
            (
                f"{run.scenario['workload']['tokens_per_rank']:,}",
                f"{over.step:.3f}",
                *(f"{over.kinds[kind]:.3f}" for kind in ("attention", "experts")),
                f"{100 * figures.exposed_copy_ms / figures.step_ms:.1f} %",
                *_sensors(usual[run.cell], figures),
            )
        )
    header = ("tokens per rank", "step", "attention", "experts", "exposed copy", "MHz", "beside", "W", "beside")
    words = "dwdp over replicated; clocks and power of replicated, and beside them dwdp's"
    return Text(f"{file.shown_provenance}\n{words}\n\n{table(header, rows)}")


def _sensors(*both: Figures) -> tuple[str, ...]:
    """Clock of one and of the other, then the power of both; a dash where nobody looked."""
    clocks = (None if one.gpu is None else one.gpu.sm_mhz for one in both)
    powers = (None if one.gpu is None else one.gpu.power_w for one in both)
    return tuple("-" if value is None else f"{value:.0f}" for value in (*clocks, *powers))
