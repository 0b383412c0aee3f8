"""From times of operations that compute in a precision no product was timed in, to its rate. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from dwdp_lab.measure.calibration.fit_units import Peaks, Units
from dwdp_lab.measure.calibration.samples import ComputeSample
from dwdp_lab.program.operation import Work
from dwdp_lab.scenario.precision import Precision

COMPUTE_BOUND = 1.25
"""A sample tells of the rate when its products take so many times as long as their bytes would."""


class Rate(NamedTuple):
    """1e12 FLOP/s, as the median over so many samples."""

    tflops: float
    samples: int


def rest_of(samples: Sequence[ComputeSample], peaks: Peaks) -> dict[Precision, list[ComputeSample]]:
    """The samples with products in a precision whose peak is not known, by that precision."""
    found: dict[Precision, list[ComputeSample]] = {}
    for sample in samples:
        for precision in {piece.dtype for piece in sample.work if piece.flops} - set(peaks.tflops):
            found.setdefault(precision, []).append(sample)
    return found


def fit_rate(samples: Sequence[ComputeSample], precision: Precision, units: Units, peaks: Peaks) -> Rate | None:
    """The rate at which the cost model gives the samples' times, when units reach as much of it as was found.

    The median over samples whose products take longer than their bytes; None where there is none.
    """
    at_one = Peaks({precision: 1.0}, peaks.hbm_gbps)
    rates = []
    for sample in samples:
        asked = [piece for piece in sample.work if _is_product(piece, precision)]
        others = tuple(piece for piece in sample.work if not _is_product(piece, precision))
        left_us = sample.us - units.us(sample._replace(work=others), peaks)
        if left_us > COMPUTE_BOUND * sum(peaks.memory_us(piece) for piece in asked):
            rates.append(sum(units.compute_us(piece, at_one) for piece in asked) / left_us)
    return Rate(median(rates), len(rates)) if rates else None


def _is_product(piece: Work, precision: Precision) -> bool:
    return piece.dtype == precision and piece.flops > 0.0
