"""Calibration: what this machine reaches, measured with its own ranks, as a hardware profile for the simulator."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from dwdp_lab.execute.ranks import OnProgress, Ranks
from dwdp_lab.measure.calibration.calibrated_profile import calibrated_profile
from dwdp_lab.measure.calibration.calibration_plan import calibration_plan
from dwdp_lab.measure.calibration.calibration_runs import run_at_limit, run_plan, samples_of, spread_of
from dwdp_lab.measure.calibration.findings import Found, Samples, fit_samples
from dwdp_lab.measure.calibration.fit_moves import Line
from dwdp_lab.measure.calibration.fit_rates import rest_of
from dwdp_lab.measure.calibration.kernels_plan import JOB, KernelReport
from dwdp_lab.measure.where import where_measured
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.hardware import Hardware, load_hardware, profile_for
from dwdp_lab.timeline.span import Timeline

DISTURBED = 0.25
"""If passes differ by more than this share, something else used the machine."""


@dataclass(frozen=True)
class Calibrated:
    """A calibration: the profile, what it was found from, by how much passes differed, and how long it took.

    `spread` is None after a single pass.
    """

    profile: Hardware
    samples: Samples
    found: Found
    spread: float | None
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: the profile, and every sample with what the fit makes of it.

        `lasting` has the steps of the runs that tell of steps that last, and is None where there were none.
        `fitted_us` of compute is None where the rate of its precision could not be told.
        """
        units, peaks = self.found.units, self.found.peaks(self.samples)
        return {
            "profile": self.profile.model_dump(mode="json", exclude_none=True),
            "seconds": self.seconds,
            "spread": self.spread,
            "launch_us": self.samples.launch_us,
            "compute": [
                {
                    "what": one.what,
                    "flops": sum(piece.flops for piece in one.work),
                    "hbm_bytes": sum(piece.hbm_bytes for piece in one.work),
                    "rows_per_expert": max(piece.rows_per_expert for piece in one.work),
                    "us": one.us,
                    "fitted_us": None if rest_of([one], peaks) else units.us(one, peaks),
                }
                for one in self.samples.compute
            ],
            "pulls": [
                one._asdict() | {"fitted_us": _line_us(self.found.pulls, one.nbytes, one.copies)}
                for one in self.samples.pulls
            ],
            "exchanges": [
                one._asdict() | {"fitted_us": _line_us(self.found.exchanges[one.kind], one.nbytes)}
                for one in self.samples.exchanges
                if one.kind in self.found.exchanges
            ],
            "beside_a_pull": [one._asdict() for one in self.samples.slowed],
            "lasting": None if self.found.lasting is None else self.found.lasting._asdict(),
            "errors": self.errors(),
        }

    def errors(self) -> dict[str, float]:
        """Median of |fitted / measured - 1| over the samples that were fitted, by kind of sample."""
        plain = {
            "pulls": [_line_us(self.found.pulls, one.nbytes, one.copies) / one.us for one in self.samples.pulls],
            "exchanges": [
                _line_us(self.found.exchanges[one.kind], one.nbytes) / one.us
                for one in self.samples.exchanges
                if one.kind in self.found.exchanges
            ],
        }
        return {"compute": self.found.units.error} | {
            name: median(abs(ratio - 1.0) for ratio in ratios) for name, ratios in plain.items() if ratios
        }


def _line_us(line: Line, nbytes: float, times: float = 1.0) -> float:
    return nbytes / line.gbps / 1e3 + times * line.fixed_us


def calibrate(ranks: Ranks, command: str, progress: OnProgress | None = None, quick: bool = False) -> Calibrated:
    """Measure the machine of these ranks; takes about a minute. `quick` tries everything out in a few seconds.

    Raises ScenarioError for a group of one rank, and what `Ranks.run` raises.
    """
    began = time.monotonic()
    plan = calibration_plan(ranks.machine, ranks.size, quick)
    report = _share(progress, 0.0, 0.2)
    kernels: list[KernelReport] = ranks.perform(JOB, plan.kernels, report)
    if not all(report.has_e4m3 for report in kernels):
        plan = plan._replace(scaled=())

    def run(scenario: Scenario) -> Timeline:
        return ranks.run(scenario).timeline

    runs = run_plan(plan, run, _share(progress, 0.2, 0.9 if plan.at_limit else 1.0))
    lasting, notes = run_at_limit(plan, run, _share(progress, 0.9, 1.0))
    samples = samples_of(plan, runs, kernels)
    found = replace(fit_samples(samples), lasting=lasting)
    environment = runs[-1][-1].timeline.environment
    memory = min(report.memory_bytes for report in kernels)
    spread = spread_of(runs)
    where = where_measured(environment, ranks.machine, ranks.size, command)
    where = where._replace(notes=(*where.notes, *notes))
    if spread is not None and spread > DISTURBED:
        note = (
            f"disturbed: passes of the same scenario differ by {100 * spread:.0f} %; calibrate again when it is quiet"
        )
        where = where._replace(notes=(*where.notes, note))
    shipped = profile_for(where.device) if ranks.machine == "cuda" else None
    sheet = None if shipped is None else load_hardware(shipped)
    sharing = ranks.size if ranks.machine == "cpu" else environment["ranks_per_gpu"]
    profile = calibrated_profile(samples, found, where, memory, sheet, sharing)
    return Calibrated(profile, samples, found, spread, time.monotonic() - began)


def _share(progress: OnProgress | None, first: float, last: float) -> OnProgress | None:
    if progress is None:
        return None
    return lambda share, doing: progress(first + share * (last - first), doing)
