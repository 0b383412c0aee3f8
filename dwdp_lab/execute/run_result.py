"""What a run on rank processes gives back."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dwdp_lab.execute.collective_waits import split_waits
from dwdp_lab.execute.messages import Finished
from dwdp_lab.program.operation import Program
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.timeline.span import Timeline

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class RunResult:
    """One strategy's run: its timeline, and what it computed.

    `output_sha256[r]` is over the raw bytes of rank r's outputs (the hidden states after the final norm) of
    all steps in order. On request `outputs[r][s]` are these tensors [tokens, H], and `routing[r][s][m]` the
    experts [tokens, k] that the m-th MoE layer chose. `wall_ms` is the time from asking for the run to having
    this, start of the ranks and preparation of the weights included.
    """

    timeline: Timeline
    output_sha256: tuple[str, ...]
    wall_ms: float
    outputs: tuple[tuple[Tensor, ...], ...] | None = None
    routing: tuple[tuple[tuple[Tensor, ...], ...], ...] | None = None


def assemble(
    scenario: Scenario,
    finished: Sequence[Finished],
    environment: dict[str, Any],
    notes: Sequence[str],
    wall_ms: float,
) -> RunResult:
    """One result from the ranks' reports, in rank order. `notes` precede those of the ranks."""
    batches = scenario.batches
    timeline = Timeline(
        spans=split_waits([span for report in finished for span in report.spans]),
        strategy=scenario.strategy.name,
        machine="cpu",
        provenance="measured",
        tokens=tuple(batches.tokens(rank) for rank in range(scenario.ranks)),
        steps=batches.steps,
        notes=(*notes, *dict.fromkeys(note for report in finished for note in report.notes)),
        environment=environment,
    )
    outputs = tuple(report.outputs for report in finished if report.outputs is not None)
    routing = tuple(report.routing for report in finished if report.routing is not None)
    return RunResult(
        timeline=timeline,
        output_sha256=tuple(report.output_sha256 for report in finished),
        wall_ms=wall_ms,
        outputs=outputs or None,
        routing=routing or None,
    )


def crowded(programs: Sequence[Program], cores: int) -> tuple[str, ...]:
    """A note when there are more lanes than cores: a copy then takes time from computing, as on no GPU."""
    lanes = sum(len({op.lane for op in program.ops}) for program in programs)
    return (f"{lanes} lanes share {cores} CPU cores",) if lanes > cores else ()


def host_environment(torch_version: str) -> dict[str, Any]:
    """What a measured timeline says about where it was measured."""
    return {
        "device": _processor(),
        "cpu_count": os.cpu_count(),
        "cpus_allowed": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch_version,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _processor() -> str:
    """The processor's name; Linux tells it only here."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
