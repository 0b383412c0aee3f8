"""Running what calibration needs, and collecting its samples. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from dwdp_lab.execute.failures import RankFailed
from dwdp_lab.measure.calibration.calibration_plan import CalibrationPlan
from dwdp_lab.measure.calibration.findings import Samples
from dwdp_lab.measure.calibration.fit_lasting import LastingFit, fit_lasting
from dwdp_lab.measure.calibration.fit_units import Peaks
from dwdp_lab.measure.calibration.kernels_plan import KernelReport
from dwdp_lab.measure.calibration.run_samples import (
    Ran,
    compute_samples,
    exchange_samples,
    pull_samples,
    slowed_samples,
)
from dwdp_lab.measure.calibration.samples import ComputeSample
from dwdp_lab.measure.turns import turns
from dwdp_lab.program.build import build
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.timeline.metrics import metrics
from dwdp_lab.timeline.span import Timeline

Runs = list[list[Ran]]
"""For each scenario of a plan its runs, one a pass."""


def run_plan(
    plan: CalibrationPlan,
    run: Callable[[Scenario], Timeline],
    progress: Callable[[float, str], None] | None = None,
) -> Runs:
    """Run all scenarios in random order, pass after pass: whatever drifts meanwhile spreads over all alike."""
    scenarios = plan.scenarios()
    runs: Runs = [[] for _ in scenarios]
    order = turns(len(scenarios), plan.passes, seed=0)
    for done, number in enumerate(order):
        scenario = scenarios[number]
        if progress is not None:
            progress(done / len(order), f"{scenario.model.name}, {scenario.strategy.name}")
        runs[number].append(Ran(build(scenario), run(scenario)))
    return runs


def run_at_limit(
    plan: CalibrationPlan,
    run: Callable[[Scenario], Timeline],
    progress: Callable[[float, str], None] | None = None,
) -> tuple[LastingFit | None, tuple[str, ...]]:
    """Run what tells of steps that last: what was found (None for a plan without), and notes for who reads it.

    A machine without the memory for these runs, or whose ranks fail in them, goes without what they tell: all the rest
    has been measured by then.
    """
    if not plan.at_limit:
        return None, ()
    timelines = []
    for done, scenario in enumerate(plan.at_limit):
        if progress is not None:
            progress(done / len(plan.at_limit), f"steps that last, {scenario.strategy.name}")
        try:
            timelines.append(run(scenario))
        except ScenarioError as error:
            return None, (f"not measured: steps that last ({error})",)
        except RankFailed as error:
            why = error.traceback_text.rstrip().splitlines()[-1]  # a profile is no place for a log
            return None, (f"not measured: steps that last (rank {error.rank}: {why})",)
    return fit_lasting(*timelines), ()


def spread_of(runs: Runs) -> float | None:
    """How much passes of one scenario differ: slowest over fastest step, less 1; median over the scenarios.

    None after a single pass.
    """
    if max(map(len, runs)) < 2:
        return None
    steps = [[metrics(one.timeline).step_ms for one in passes] for passes in runs]
    return median(max(of_scenario) / min(of_scenario) - 1.0 for of_scenario in steps)


def samples_of(plan: CalibrationPlan, runs: Runs, kernels: Sequence[KernelReport]) -> Samples:
    """The samples in the runs of a plan and in what the ranks reported of kernels."""
    scenarios = plan.scenarios()

    def of(some: Sequence[Scenario]) -> list[Ran]:
        return [one for scenario, passes in zip(scenarios, runs, strict=True) if scenario in some for one in passes]

    singles = [
        samples[0]._replace(us=median(sample.us for sample in samples))
        for samples in zip(*(report.samples for report in kernels), strict=True)
    ]
    fitted = [one for one in singles if one.what != "copy"]  # it gives the memory's rate, and is not what merges reach
    beside, alone = runs[-2], runs[-1]
    # merges are samples too; pulls in slices would add the same ones again, beside peers' copies that take longer
    whole = [one for one in plan.pulls if one.strategy.slice_bytes is None]
    return Samples(
        (*fitted, *compute_samples(of([*plan.compute, *plan.scaled, *whole]))),
        tuple(pull_samples(of(plan.pulls))),
        tuple(exchange_samples(of(plan.exchanges))),
        tuple(one for pair in zip(beside, alone, strict=True) for one in slowed_samples(*pair)),
        _peaks(kernels, singles),
        median(report.launch_us for report in kernels),
    )


def _peaks(kernels: Sequence[KernelReport], singles: Sequence[ComputeSample]) -> Peaks:
    """What a rank reaches at best while all others are busy too."""
    largest = max((one for one in singles if one.what == "copy"), key=lambda one: one.work[0].hbm_bytes)
    return Peaks(
        {name: median(report.peak_tflops[name] for report in kernels) for name in kernels[0].peak_tflops},
        largest.work[0].hbm_bytes / largest.us / 1e3,
    )
