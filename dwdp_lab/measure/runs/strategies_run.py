"""Running a grid of scenarios: in random order, several times, each result kept as soon as it is there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from dwdp_lab.execute.gpu_sample import GpuSample
from dwdp_lab.execute.ranks import OnProgress, Ranks
from dwdp_lab.measure.runs.figures import Figures
from dwdp_lab.measure.runs.grid import label_of
from dwdp_lab.measure.runs.recorded_runs import MachineRun, Run, RunsFile, new_file
from dwdp_lab.measure.runs.run_length import about_length
from dwdp_lab.measure.runs.summary import summary_of
from dwdp_lab.measure.turns import turns
from dwdp_lab.measure.where import where_measured
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.hardware import Hardware
from dwdp_lab.simulate.physics import Physics
from dwdp_lab.simulate.run import run_sim
from dwdp_lab.timeline.span import Timeline

Keep = Callable[[RunsFile], None]
"""Called with all that is known so far, after every run."""


class Sitting(NamedTuple):
    """What is run, and how it is recorded. `hardware` is the profile that the machine was calibrated to."""

    machine: MachineRun
    scenarios: Sequence[Scenario]
    repeats: int
    seed: int
    title: str
    command: str
    hardware: Hardware | None = None


class _Ran(NamedTuple):
    """A run, what the sensors of each GPU said during it, and the SHA-256 of what each rank computed."""

    timeline: Timeline
    samples: Sequence[Sequence[GpuSample]] = ()
    output_sha256: Sequence[str] = ()


@dataclass
class _SoFar:
    """One scenario's repeats, and what its runs noted and computed."""

    figures: list[Figures]
    notes: list[str]
    outputs: list[str]

    def add(self, ran: _Ran) -> None:
        self.figures.append(Figures.of(ran.timeline, ran.samples))
        self.notes += [note for note in ran.timeline.notes if note not in self.notes]
        if ran.output_sha256:
            output = hashlib.sha256("".join(ran.output_sha256).encode()).hexdigest()
            self.outputs += [output] if output not in self.outputs else []


def measure_grid(sitting: Sitting, ranks: Ranks, keep: Keep, progress: OnProgress | None = None) -> RunsFile:
    """Run all scenarios on ranks of the group's size. Raises what `Ranks.run` raises; what ran until then is kept."""

    def run(scenario: Scenario) -> _Ran:
        result = ranks.run(scenario)
        return _Ran(result.timeline, result.samples, result.output_sha256)

    return _run(sitting, run, keep, progress)


def simulate_grid(
    sitting: Sitting, hardware: Hardware, physics: Physics, keep: Keep, progress: OnProgress | None = None
) -> RunsFile:
    """The same in virtual time, once each: the simulator has no noise."""
    once = sitting._replace(repeats=1)
    return _run(once, lambda scenario: _Ran(run_sim(scenario, hardware=hardware, physics=physics)), keep, progress)


def _run(sitting: Sitting, run: Callable[[Scenario], _Ran], keep: Keep, progress: OnProgress | None) -> RunsFile:
    scenarios = sitting.scenarios
    so_far = [_SoFar([], [], []) for _ in scenarios]
    begun: RunsFile | None = None
    file: RunsFile | None = None
    order = turns(len(scenarios), sitting.repeats, sitting.seed)
    for done, number in enumerate(order):
        scenario = scenarios[number]
        if progress is not None:
            tokens = getattr(scenario.workload, "tokens_per_rank", 0)
            progress(done / len(order), f"{label_of(scenario)}, {tokens} tokens")
        ran = run(scenario)
        so_far[number].add(ran)
        if begun is None:
            begun = _begin(sitting, ran.timeline)
        runs = list(_runs(scenarios, so_far))
        notes = [*begun.notes, *(about_length(runs) if sitting.machine == "cuda" else ())]
        file = begun.model_copy(update={"runs": runs, "summary": summary_of(runs), "notes": notes})
        keep(file)
    if file is None:
        raise ValueError("there is nothing to run")
    return file


def _begin(sitting: Sitting, timeline: Timeline) -> RunsFile:
    if sitting.machine != "sim":
        where = where_measured(timeline.environment, sitting.machine, timeline.ranks, sitting.command)
        return new_file(sitting.title, where, sitting.seed, sitting.hardware)
    return RunsFile(
        title=sitting.title,
        provenance="simulated",
        machine="sim",
        ranks=timeline.ranks,
        device=f"virtual time, profile {timeline.environment['hardware']}",
        versions={},
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        command=sitting.command,
        seed=sitting.seed,
        hardware=sitting.hardware,
    )


def _runs(scenarios: Sequence[Scenario], so_far: Sequence[_SoFar]) -> Iterator[Run]:
    for scenario, one in zip(scenarios, so_far, strict=True):
        if one.figures:
            yield Run(
                scenario=scenario.to_dict(),
                repeats=list(one.figures),
                notes=list(one.notes),
                outputs=list(one.outputs),
            )
