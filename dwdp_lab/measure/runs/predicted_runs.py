"""Predicted beside measured: how far the simulator is from runs that were kept. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from dwdp_lab.measure.runs.figures import Figures
from dwdp_lab.measure.runs.over_dep import over_best_dep
from dwdp_lab.measure.runs.recorded_runs import Run, RunsFile
from dwdp_lab.program.build import build
from dwdp_lab.program.operation import COLLECTIVES
from dwdp_lab.scenario.errors import MISSING, ScenarioError
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.hardware import Hardware
from dwdp_lab.simulate.physics import Physics
from dwdp_lab.simulate.predict import physics_for
from dwdp_lab.simulate.run import run_sim

TELLING = 0.03
"""Ratios closer to 1 than this do not tell who is faster."""


@dataclass(frozen=True)
class PredictedRun:
    """One run, measured and predicted. `over_dep` are its ratios to the best DEP of its cell, both ways."""

    label: str
    run: Run
    predicted: Figures
    measured_over_dep: float | None
    predicted_over_dep: float | None

    @property
    def error(self) -> float:
        """Predicted step time over measured, less 1."""
        return self.predicted.step_ms / self.run.figures.step_ms - 1.0

    @property
    def spread(self) -> float | None:
        """Slowest repeat over the fastest, less 1; None for a run that was not repeated."""
        steps = [one.step_ms for one in self.run.repeats]
        return max(steps) / min(steps) - 1.0 if len(steps) > 1 else None

    @property
    def tells(self) -> bool:
        """The measured ratio to DEP is one that tells who is faster; never for DEP itself."""
        measured = self.measured_over_dep
        return measured is not None and not self.label.startswith("dep") and abs(measured - 1.0) > TELLING

    @property
    def right(self) -> bool:
        """Predicted and measured say the same of who is faster."""
        if self.measured_over_dep is None or self.predicted_over_dep is None:
            return False
        return (self.measured_over_dep > 1.0) == (self.predicted_over_dep > 1.0)


@dataclass(frozen=True)
class Errors:
    """Errors of step times, as shares; and how often "faster than DEP" is predicted right where measured tells.

    `spread` is how much repeats of one run differ, slowest over fastest less 1, median over the runs that were
    repeated (None where none was): no prediction can be closer than that.
    """

    runs: int
    median: float
    worst: float
    worst_at: str
    signs: int
    signs_right: int
    spread: float | None

    @property
    def spread_words(self) -> str:
        """How much repeats differ, as part of a sentence."""
        return "no run was repeated" if self.spread is None else f"repeats of a run differ by {100 * self.spread:.1f} %"


def predict_runs(file: RunsFile, hardware: Hardware | None = None) -> tuple[PredictedRun, ...]:
    """Every run of the file simulated on a profile: the given one, or that of the file.

    Raises ScenarioError for a file without a profile when none is given.
    """
    profile = hardware or file.hardware
    if profile is None:
        hint = "give one with --hardware, or calibrate the machine before the runs are measured"
        raise ScenarioError("hardware", MISSING, "is missing: these runs were kept without a profile", hint)
    predicted = [
        Run(scenario=run.scenario, repeats=[predicted_figures(file, run.read_scenario, profile)]) for run in file.runs
    ]
    measured, simulated = over_best_dep(file.runs), over_best_dep(predicted)
    return tuple(
        PredictedRun(was.label, was.run, would.run.figures, was.over_dep, would.over_dep)
        for was, would in zip(measured, simulated, strict=True)
    )


def predicted_figures(file: RunsFile, scenario: Scenario, hardware: Hardware) -> Figures:
    """What the simulator makes of a scenario that ran on the file's machine.

    A run on GPUs begins on cool ones. Where the profile knows of steps that last, as many of its steps as fit into the
    time until then are cool ones, the rest lasting ones; one step may be partly both.
    """
    as_it_ran, profile, physics = as_on_machine(file, scenario, hardware)

    def figures(lasting: bool) -> Figures:
        return Figures.of(run_sim(as_it_ran, hardware=profile, physics=replace(physics, lasting=lasting)))

    cool = figures(lasting=False)
    known = None if profile.reached is None else profile.reached.lasting
    run_ms = cool.step_ms * as_it_ran.batches.steps
    if file.machine != "cuda" or known is None or run_ms <= known.after_ms.value:
        return cool
    return Figures.blend(cool, figures(lasting=True), known.after_ms.value / run_ms)


def as_on_machine(file: RunsFile, scenario: Scenario, hardware: Hardware) -> tuple[Scenario, Hardware, Physics]:
    """The scenario, profile and effects that stand for how a machine takes `link_gbps`.

    CPU ranks pace pulls and messages to it: collectives stay as fast as they are, a paced pull cannot be faster than
    memory, and as it sleeps most of the time it does not slow what computes beside it, nor do its copies add up.
    """
    physics = physics_for(hardware)
    if file.machine != "cpu" or scenario.link_gbps is None:
        return scenario, hardware, physics
    unpaced = scenario.model_copy(update={"link_gbps": None})
    if any(op.kind in COLLECTIVES for program in build(scenario) for op in program.ops):
        return unpaced, hardware, physics
    if scenario.link_gbps >= hardware.link_gbps.value:
        return unpaced, hardware, physics
    if hardware.reached is not None:
        reached = hardware.reached.model_copy(update={"copy_us": None})
        hardware = hardware.model_copy(update={"reached": reached})
    return scenario, hardware, replace(physics, hbm_traffic=False, power=False, collective_sms=False)


def errors_of(rows: Sequence[PredictedRun]) -> Errors:
    """The errors of at least one run."""
    worst = max(rows, key=lambda row: abs(row.error))
    telling = [row for row in rows if row.tells]
    spreads = [row.spread for row in rows if row.spread is not None]
    return Errors(
        len(rows),
        median(abs(row.error) for row in rows),
        worst.error,
        worst.label,
        len(telling),
        sum(row.right for row in telling),
        median(spreads) if spreads else None,
    )
