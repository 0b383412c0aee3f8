"""All that calibration measured, and all that follows from it. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from dwdp_lab.measure.calibration.fit_moves import Line, fit_exchanges, fit_pulls, fit_slowdown
from dwdp_lab.measure.calibration.fit_units import Peaks, Units, fit_units
from dwdp_lab.measure.calibration.samples import ComputeSample, ExchangeSample, PullSample, SlowedSample
from dwdp_lab.program.operation import Kind, Unit


@dataclass(frozen=True)
class Samples:
    """Everything that was measured. `peaks`: the best products per precision and the largest copy within a rank."""

    compute: tuple[ComputeSample, ...]
    pulls: tuple[PullSample, ...]
    exchanges: tuple[ExchangeSample, ...]
    slowed: tuple[SlowedSample, ...]
    peaks: Peaks
    launch_us: float


@dataclass(frozen=True)
class Found:
    """What follows from the samples."""

    units: Units
    pulls: Line
    exchanges: dict[Kind, Line]
    slowdown: dict[Unit, float]


def fit_samples(samples: Samples) -> Found:
    """The parameters that explain the samples best."""
    return Found(
        fit_units(samples.compute, samples.peaks),
        fit_pulls(samples.pulls),
        fit_exchanges(samples.exchanges),
        fit_slowdown(samples.slowed),
    )
