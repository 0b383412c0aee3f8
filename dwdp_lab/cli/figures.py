"""A run's figures as plain JSON values: the form `--json` writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dwdp_lab.timeline.metrics import StepTime, metrics
from dwdp_lab.timeline.span import Timeline

TIMES = ("step_ms", "compute_ms", "communication_ms", "exposed_copy_ms", "wait_on_peers_ms", "idle_ms")


def result_figures(timeline: Timeline, output_sha256: Sequence[str], wall_ms: float) -> dict[str, Any]:
    """One strategy's entry of `results`: means over ranks, and every rank's values in `per_rank`."""
    measured = metrics(timeline)
    return {
        "strategy": timeline.strategy,
        "machine": timeline.machine,
        "provenance": timeline.provenance,
        "notes": list(timeline.notes),
        **_times(measured),
        "tokens_per_s_per_rank": measured.tokens_per_s,
        "per_rank": [
            {
                "rank": rank.rank,
                "tokens": timeline.tokens[rank.rank],
                **_times(rank),
                "tokens_per_s": rank.tokens_per_s,
            }
            for rank in measured.by_rank
        ],
        "output_sha256": list(output_sha256),
        "environment": timeline.environment,
        "wall_ms": wall_ms,
    }


def _times(measured: StepTime) -> dict[str, float]:
    return {name: getattr(measured, name) for name in TIMES} | {"overlap_pct": measured.overlap_pct}
