"""Steps that last, measured on two GPUs (data/measured/): the first one, and what they come to at the power limit."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

from dwdp_lab.measure.runs.figures import Figures
from dwdp_lab.measure.runs.predicted_runs import PredictedRun, predict_runs
from dwdp_lab.measure.runs.recorded_runs import Run, read_runs
from dwdp_lab.program.memory import ledger
from dwdp_lab.teach.shown import Gallery, table
from dwdp_lab.view.charts.step_times import step_times

LASTING = "h200-pair-lasting"
HEADER = ("strategy", "GB", "first", "/ replicated", "later", "/ replicated", "/ DEP", "MHz", "W", "mean", "predicted")


def recorded_lasting() -> Gallery:
    """Every run of the record: its first step, its mean step in the second half of the time, and the mean of all.

    That half is the same stretch of time for all runs, of the shortest: as the clock falls and rises by time, halves by
    the number of steps would have the deepest fall of one strategy in them and not that of another.
    """
    file = read_runs(LASTING)
    labels = [_label(run) for run in file.runs]
    until_ms = min(sum(run.figures.steps_ms) for run in file.runs)
    rows = [(label, *_cells(row, file.runs, until_ms)) for label, row in zip(labels, predict_runs(file), strict=True)]
    workload = file.runs[0].scenario["workload"]
    words = (
        f"{workload['steps']} steps in a row, {workload['tokens_per_rank']:,} tokens per rank; ms per step: the first, "
        f"those from {until_ms / 2e3:.1f} to {until_ms / 1e3:.1f} s (later), and\nthe mean of all, beside what a "
        "profile calibrated on this pair predicts (simulated); / DEP: tokens/s over DEP's, later;\nMHz and W: SM clock "
        "and power over the whole run; GB: memory of a rank by the ledger"
    )
    steps = {label: run.figures.steps_ms for label, run in zip(labels, file.runs, strict=True)}
    text = f"{file.shown_provenance}\n{words}\n\n{table(HEADER, rows)}"
    return Gallery(text, (step_times(steps, (file.shown_provenance,)),))


def _cells(row: PredictedRun, runs: list[Run], until_ms: float) -> tuple[str, ...]:
    first, later = _phases(row.run.figures, until_ms)
    usual_first, usual_later = _phases(_of("replicated", runs), until_ms)
    _, dep_later = _phases(_of("dep", runs), until_ms)
    gpu, scenario = row.run.figures.gpu, row.run.read_scenario
    return (
        f"{ledger(scenario, scenario.strategy.name).total / 1e9:.1f}",
        f"{first:.2f}",
        f"{first / usual_first:.3f}",
        f"{later:.2f}",
        f"{later / usual_later:.3f}",
        f"{dep_later / later:.3f}",
        "-" if gpu is None or gpu.sm_mhz is None else f"{gpu.sm_mhz:.0f}",
        "-" if gpu is None or gpu.power_w is None else f"{gpu.power_w:.0f}",
        f"{row.run.figures.step_ms:.2f}",
        f"{row.predicted.step_ms:.2f}",
    )


def _of(strategy: str, runs: list[Run]) -> Figures:
    """The figures of the record's one run of a strategy."""
    (found,) = (run.figures for run in runs if run.scenario["strategy"]["name"] == strategy)
    return found


def _phases(figures: Figures, until_ms: float) -> tuple[float, float]:
    """The first step, and the mean step in the second half of so much time."""
    return figures.steps_ms[0], mean_step_ms(figures.steps_ms, until_ms / 2, until_ms)


def mean_step_ms(steps_ms: Sequence[float], since_ms: float, until_ms: float) -> float:
    """The mean step in a stretch of a run's time: its length over the steps made in it, a part of a step being a part.

    The stretch lies within the run.
    """
    ends = accumulate(steps_ms, initial=0.0)
    made = sum(max(0.0, min(end, until_ms) - max(start, since_ms)) / (end - start) for start, end in pairwise(ends))
    return (until_ms - since_ms) / made


def _label(run: Run) -> str:
    """A strategy as a row calls it, with what was other than usual."""
    scenario = run.read_scenario
    strategy, kept = scenario.strategy, scenario.group.local_experts
    if strategy.name != "dwdp":
        return strategy.name
    late = "" if strategy.distance == strategy.slots else ", pulls start late"
    return f"dwdp{late}" + ("" if kept is None else f", {kept} of {scenario.model.experts} experts kept")
