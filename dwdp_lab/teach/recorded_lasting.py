"""Steps that last, measured on two GPUs (data/measured/): the first one, and what they come to at the power limit."""

from __future__ import annotations

from statistics import fmean

from dwdp_lab.measure.runs.figures import Figures
from dwdp_lab.measure.runs.predicted_runs import PredictedRun, predict_runs
from dwdp_lab.measure.runs.recorded_runs import Run, read_runs
from dwdp_lab.program.memory import ledger
from dwdp_lab.teach.shown import Gallery, table
from dwdp_lab.view.charts.step_times import step_times

LASTING = "h200-pair-lasting"
HEADER = ("strategy", "GB", "first", "/ replicated", "later", "/ replicated", "/ DEP", "MHz", "mean", "predicted")


def recorded_lasting() -> Gallery:
    """Every run of the record: its first step, its steps in the second half of the run, and the mean of all."""
    file = read_runs(LASTING)
    labels = [_label(run) for run in file.runs]
    rows = [(label, *_cells(row, file.runs)) for label, row in zip(labels, predict_runs(file), strict=True)]
    workload = file.runs[0].scenario["workload"]
    words = (
        f"{workload['steps']} steps in a row, {workload['tokens_per_rank']:,} tokens per rank: ms of the first step,\n"
        "of those in the second half of the run (later), and of all; tokens/s over DEP's, later;\n"
        "SM clock of the whole run; memory of a rank by the ledger; the mean as predicted by a profile\n"
        "calibrated on this pair (simulated)"
    )
    steps = {label: run.figures.steps_ms for label, run in zip(labels, file.runs, strict=True)}
    text = f"{file.shown_provenance}\n{words}\n\n{table(HEADER, rows)}"
    return Gallery(text, (step_times(steps, (file.shown_provenance,)),))


def _cells(row: PredictedRun, runs: list[Run]) -> tuple[str, ...]:
    first, later = _phases(row.run.figures)
    usual_first, usual_later = _phases(_of("replicated", runs))
    _, dep_later = _phases(_of("dep", runs))
    gpu, scenario = row.run.figures.gpu, row.run.read_scenario
    return (
        f"{ledger(scenario, scenario.strategy.name).total / 1e9:.1f}",
        f"{first:.2f}",
        f"{first / usual_first:.3f}",
        f"{later:.2f}",
        f"{later / usual_later:.3f}",
        f"{dep_later / later:.3f}",
        "-" if gpu is None or gpu.sm_mhz is None else f"{gpu.sm_mhz:.0f}",
        f"{row.run.figures.step_ms:.2f}",
        f"{row.predicted.step_ms:.2f}",
    )


def _of(strategy: str, runs: list[Run]) -> Figures:
    """The figures of the record's one run of a strategy."""
    (found,) = (run.figures for run in runs if run.scenario["strategy"]["name"] == strategy)
    return found


def _phases(figures: Figures) -> tuple[float, float]:
    """The first step, and the mean of those in the second half of the run."""
    steps = figures.steps_ms
    return steps[0], fmean(steps[len(steps) // 2 :])


def _label(run: Run) -> str:
    """A strategy as a row calls it, with what was other than usual."""
    scenario = run.read_scenario
    strategy, kept = scenario.strategy, scenario.group.local_experts
    if strategy.name != "dwdp":
        return strategy.name
    late = "" if strategy.distance == strategy.slots else ", pulls start late"
    return f"dwdp{late}" + ("" if kept is None else f", {kept} of {scenario.model.experts} experts kept")
