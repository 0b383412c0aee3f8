"""The rows that a file of runs begins a reader with: medians and ratios, which follow from the runs. No torch."""

from __future__ import annotations

from collections.abc import Sequence

from dwdp_lab.measure.runs.over_dep import over_best_dep
from dwdp_lab.measure.runs.over_replicated import over_replicated
from dwdp_lab.measure.runs.recorded_runs import Row, Run


def summary_of(runs: Sequence[Run]) -> list[Row]:
    """A row for every run."""
    rows = []
    for ratio, usual in zip(over_best_dep(runs), over_replicated(runs), strict=True):
        figures, workload = ratio.run.figures, ratio.run.scenario["workload"]
        rows.append(
            Row(
                strategy=ratio.label,
                tokens=workload.get("tokens_per_rank"),
                cv=workload.get("cv"),
                link_gbps=ratio.run.scenario["link_gbps"],
                step_ms=figures.step_ms,
                tokens_per_s=figures.tokens_per_s,
                over_best_dep=ratio.over_dep,
                best_dep=ratio.best_dep,
                exposed_copy_pct=100.0 * figures.exposed_copy_ms / figures.step_ms,
                step_over_replicated=None if usual is None else usual.step,
                kinds_over_replicated={} if usual is None else usual.kinds,
                same_bits=None if usual is None else usual.same_bits,
            )
        )
    return rows
