"""All that calibration measured, and all that follows from it. No torch."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dwdp_lab.measure.calibration.fit_lasting import LastingFit
from dwdp_lab.measure.calibration.fit_moves import Line, fit_exchanges, fit_pulls, fit_slowdown
from dwdp_lab.measure.calibration.fit_rates import Rate, fit_rate, rest_of
from dwdp_lab.measure.calibration.fit_units import Peaks, Units, fit_units
from dwdp_lab.measure.calibration.samples import ComputeSample, ExchangeSample, PullSample, SlowedSample
from dwdp_lab.program.operation import Kind, Unit
from dwdp_lab.scenario.precision import Precision


@dataclass(frozen=True)
class Samples:
    """Everything that was measured. `peaks`: the best products per precision and the largest copy within a rank."""

    compute: tuple[ComputeSample, ...]
    pulls: tuple[PullSample, ...]
    exchanges: tuple[ExchangeSample, ...]
    slowed: tuple[SlowedSample, ...]
    peaks: Peaks
    launch_us: float

    @property
    def of_known_rates(self) -> tuple[ComputeSample, ...]:
        """The samples of compute that units are fitted to: all of their products are in precisions with a peak."""
        rest = rest_of(self.compute, self.peaks)
        return tuple(one for one in self.compute if not any(one in some for some in rest.values()))


@dataclass(frozen=True)
class Found:
    """What follows from the samples. `rates` are of precisions that no product was timed in.

    `lasting` follows from runs of its own, where there were any.
    """

    units: Units
    rates: dict[Precision, Rate]
    pulls: Line
    exchanges: dict[Kind, Line]
    slowdown: dict[Unit, float]
    lasting: LastingFit | None = None

    def peaks(self, samples: Samples) -> Peaks:
        """The samples' peaks and the rates that were found."""
        found = {precision: rate.tflops for precision, rate in self.rates.items()}
        return replace(samples.peaks, tflops={**samples.peaks.tflops, **found})


def fit_samples(samples: Samples) -> Found:
    """The parameters that explain the samples best."""
    peaks, rest = samples.peaks, rest_of(samples.compute, samples.peaks)
    units = fit_units(samples.of_known_rates, peaks)
    rates = {precision: fit_rate(some, precision, units, peaks) for precision, some in rest.items()}
    return Found(
        units,
        {precision: rate for precision, rate in rates.items() if rate is not None},
        fit_pulls(samples.pulls),
        fit_exchanges(samples.exchanges),
        fit_slowdown(samples.slowed),
    )
