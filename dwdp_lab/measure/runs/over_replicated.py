"""Times over those of `replicated`, which neither copies nor waits: what pulls cost what computes. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dwdp_lab.measure.runs.recorded_runs import Run

OWN_TOKENS = frozenset({"attention", "dense", "route"})
ALIKE = {"dwdp": OWN_TOKENS | {"experts"}, "weight_gather": OWN_TOKENS | {"experts"}, "dep": OWN_TOKENS}
"""Kinds that do the same work on every rank as under `replicated`, by strategy. Experts of DEP compute other ranks'
tokens; under `tensor` and `pipeline` no kind computes what it does there."""


class OverReplicated(NamedTuple):
    """A run's times as multiples of those of the replicated run of its cell: the step's, and each kind of operation's.

    Of kinds those that do the same work in both (`ALIKE`). `same_bits`: all repeats of both computed the same outputs
    (None where outputs are not known, as of the simulator).
    """

    step: float
    kinds: dict[str, float]
    same_bits: bool | None


def over_replicated(runs: Sequence[Run]) -> tuple[OverReplicated | None, ...]:
    """Every run's ratios, in the given order; None where no replicated run has the same model, ranks and workload."""
    usual = {run.cell: run for run in runs if run.scenario["strategy"]["name"] == "replicated"}
    return tuple(_over(run, usual.get(run.cell)) for run in runs)


def _over(run: Run, usual: Run | None) -> OverReplicated | None:
    if usual is None:
        return None
    ours, theirs = run.figures, usual.figures
    alike = ALIKE.get(run.scenario["strategy"]["name"], frozenset())
    both = [kind for kind in ours.kind_ms if kind in alike and theirs.kind_ms.get(kind)]
    known = run.outputs and usual.outputs
    return OverReplicated(
        ours.step_ms / theirs.step_ms,
        {kind: ours.kind_ms[kind] / theirs.kind_ms[kind] for kind in both},
        len({*run.outputs, *usual.outputs}) == 1 if known else None,
    )
