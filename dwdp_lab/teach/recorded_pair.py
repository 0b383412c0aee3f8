"""What `bench strategies` measured on two GPUs and data/measured/ keeps: DWDP over DEP, and what pulls cost compute."""

from __future__ import annotations

from dwdp_lab.measure.runs.figures import Figures
from dwdp_lab.measure.runs.over_dep import over_best_dep
from dwdp_lab.measure.runs.over_replicated import over_replicated
from dwdp_lab.measure.runs.recorded_runs import RunsFile, read_runs
from dwdp_lab.teach.shown import Text, table
from dwdp_lab.view.charts.chart import Chart
from dwdp_lab.view.charts.measured_crossover import measured_crossover

TOKENS, IMBALANCE, HALF = "h200-pair-tokens", "h200-pair-imbalance", "h200-pair-fp8"


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


def recorded_bytes() -> Text:
    """DWDP with experts in bf16, and in e4m3, which are half as many bytes to pull: over DEP, and over `replicated`."""
    whole, half = read_runs(TOKENS), read_runs(HALF)
    of_whole, of_half = _gains(whole), _gains(half)
    rows = [
        (
            f"{tokens:,}",
            *(f"{value:.3f}" for pair in zip(of_whole[tokens], of_half[tokens], strict=True) for value in pair),
        )
        for tokens in sorted(of_whole.keys() & of_half.keys())
    ]
    header = ("tokens per rank", "/ DEP, bf16", "e4m3", "/ replicated, bf16", "e4m3")
    words = "dwdp's tokens/s over the best DEP's, and its step over replicated's, each with experts of the same type"
    return Text(f"{half.shown_provenance}\n{words}\n\n{table(header, rows)}")


def _gains(file: RunsFile) -> dict[int, tuple[float, float]]:
    """By tokens per rank: DWDP's tokens/s over the best DEP's, its step over that of `replicated`."""
    found = {}
    for ratio, over in zip(over_best_dep(file.runs), over_replicated(file.runs), strict=True):
        if ratio.run.scenario["strategy"]["name"] == "dwdp" and ratio.over_dep is not None and over is not None:
            found[ratio.run.scenario["workload"]["tokens_per_rank"]] = (ratio.over_dep, over.step)
    return found


def _sensors(*both: Figures) -> tuple[str, ...]:
    """Clock of one and of the other, then the power of both; a dash where nobody looked."""
    clocks = (None if one.gpu is None else one.gpu.sm_mhz for one in both)
    powers = (None if one.gpu is None else one.gpu.power_w for one in both)
    return tuple("-" if value is None else f"{value:.0f}" for value in (*clocks, *powers))
