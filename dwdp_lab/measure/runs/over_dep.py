"""Ratios to the best DEP: of all its forms that ran on the same model, ranks and workload, the fastest. No torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from dwdp_lab.measure.runs.grid import label_of_fields
from dwdp_lab.measure.runs.recorded_runs import Run


class Ratio(NamedTuple):
    """A run beside the best DEP of its cell: tokens per second and GPU, as a multiple (None where no DEP ran)."""

    run: Run
    label: str
    over_dep: float | None
    best_dep: str | None


def over_best_dep(runs: Sequence[Run]) -> tuple[Ratio, ...]:
    """Every run with its ratio, in the given order."""
    deps: dict[str, list[tuple[float, str]]] = defaultdict(list)
    labels = [label_of_fields(run.scenario) for run in runs]
    for run, label in zip(runs, labels, strict=True):
        if run.scenario["strategy"]["name"] == "dep":
            deps[run.cell].append((run.figures.tokens_per_s, label))
    found = []
    for run, label in zip(runs, labels, strict=True):
        best = max(deps[run.cell], default=None)
        ratio = None if best is None else run.figures.tokens_per_s / best[0]
        found.append(Ratio(run, label, ratio, None if best is None else best[1]))
    return tuple(found)
