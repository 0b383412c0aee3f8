"""What a run on rank processes gives back."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dwdp_lab.execute.collective_waits import messages, split_waits
from dwdp_lab.execute.gpu_sample import GpuSample
from dwdp_lab.execute.launch import RankMachineName
from dwdp_lab.execute.messages import Finished
from dwdp_lab.program.operation import Program
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.timeline.profiled import Profiled, together
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
    run_us: float | None = None
    """GPU ranks: from the common start to the end of the last operation of any rank."""
    samples: tuple[tuple[GpuSample, ...], ...] = ()
    """GPU ranks: clock, power and NVLink traffic of each rank's GPU during the run; empty for ranks that share one with
    a lower rank, and without nvidia-ml-py."""
    profiled: Profiled | None = None
    """On request: a step once more, under torch.profiler. For `chrome_trace`; the timeline has nothing of it."""


def assemble(
    scenario: Scenario,
    programs: Sequence[Program],
    finished: Sequence[Finished],
    machine: RankMachineName,
    environment: dict[str, Any],
    wall_ms: float,
) -> RunResult:
    """One result from the ranks' reports, in rank order."""
    batches = scenario.batches
    reports = [report.spans for report in finished]
    timeline = Timeline(
        spans=split_waits([span for spans in reports for span in spans], messages(programs, reports)),
        strategy=scenario.strategy.name,
        machine=machine,
        provenance="measured",
        tokens=tuple(batches.tokens(rank) for rank in range(scenario.ranks)),
        steps=batches.steps,
        notes=(
            *(shared_gpus(environment) if machine == "cuda" else crowded(programs, environment["cpus_allowed"])),
            *dict.fromkeys(note for report in finished for note in report.notes),
            *_one_clock(finished),
        ),
        environment=environment | _told(finished),
    )
    outputs = tuple(report.outputs for report in finished if report.outputs is not None)
    routing = tuple(report.routing for report in finished if report.routing is not None)
    return RunResult(
        timeline=timeline,
        output_sha256=tuple(report.output_sha256 for report in finished),
        wall_ms=wall_ms,
        outputs=outputs or None,
        routing=routing or None,
        run_us=max((report.run_us for report in finished if report.run_us is not None), default=None),
        samples=tuple(report.samples for report in finished),
        profiled=together([report.profiled for report in finished if report.profiled is not None]),
    )


def _told(finished: Sequence[Finished]) -> dict[str, Any]:
    """What ranks say of their run alone; where they differ, in rank order."""
    keys = dict.fromkeys(key for report in finished for key in report.environment or {})
    values = {key: [(report.environment or {}).get(key) for report in finished] for key in keys}
    return {key: each[0] if all(one == each[0] for one in each) else each for key, each in values.items()}


def _one_clock(finished: Sequence[Finished]) -> tuple[str, ...]:
    """How well the ranks' times fit together; ranks of the CPU machine read one clock."""
    errors = [report.clock_error_us for report in finished if report.clock_error_us is not None]
    return (f"ranks' clocks agree within {2 * max(errors):.1f} us",) if errors else ()


def shared_gpus(environment: dict[str, Any]) -> tuple[str, ...]:
    """A note when several ranks share a GPU: they then take turns, and their times say little of GPUs of their own."""
    sharing = environment["ranks_per_gpu"]
    return (f"{sharing} ranks share a GPU",) if sharing > 1 else ()


def crowded(programs: Sequence[Program], cores: int) -> tuple[str, ...]:
    """A note when there are more lanes than cores: a copy then takes time from computing, as on no GPU."""
    lanes = sum(len({op.lane for op in program.ops}) for program in programs)
    return (f"{lanes} lanes share {cores} CPU cores",) if lanes > cores else ()


def host_environment(of_ranks: dict[str, Any]) -> dict[str, Any]:
    """What a measured timeline says about where it was measured. GPU ranks name their `device` themselves."""
    return {
        "device": _processor(),
        "cpu": _processor(),
        "cpu_count": os.cpu_count(),
        "cpus_allowed": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **of_ranks,
    }


def _processor() -> str:
    """The processor's name; Linux tells it only here."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
