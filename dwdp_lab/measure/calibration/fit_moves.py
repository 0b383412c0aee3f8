"""From times of pulls and collectives to rates and fixed costs. No torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

import numpy as np

from dwdp_lab.measure.calibration.robust_fit import robust_fit
from dwdp_lab.measure.calibration.samples import UNITS_OF, ExchangeSample, PullSample, SlowedSample
from dwdp_lab.program.operation import Kind, Unit


class Line(NamedTuple):
    """A time of fixed_us (per copy, or per collective) plus bytes at a rate (1e9 bytes/s)."""

    gbps: float
    fixed_us: float


def fit_pulls(samples: Sequence[PullSample]) -> Line:
    """The rate of pulls, and the fixed cost of each copy. Raises ValueError for fewer than two samples, or no bytes."""
    costs = np.array([[sample.nbytes / 1e3, sample.copies] for sample in samples])
    return _line(costs, np.array([sample.us for sample in samples]))


def fit_exchanges(samples: Sequence[ExchangeSample]) -> dict[Kind, Line]:
    """The rate and the fixed cost of each kind of collective that there are at least two samples of."""
    of_kind: dict[Kind, list[ExchangeSample]] = defaultdict(list)
    for sample in samples:
        of_kind[sample.kind].append(sample)
    return {
        kind: _line(np.array([[one.nbytes / 1e3, 1.0] for one in some]), np.array([one.us for one in some]))
        for kind, some in of_kind.items()
        if len({one.nbytes for one in some}) > 1
    }


def _line(costs: np.ndarray, times: np.ndarray) -> Line:
    slope, fixed = robust_fit(costs, times)
    if slope <= 0.0:  # noise hides what bytes cost: as fast as the largest sample went in all
        largest = int(costs[:, 0].argmax())
        slope = times[largest] / costs[largest, 0]
        fixed = 0.0
    return Line(float(1.0 / slope), float(fixed))


def fit_slowdown(samples: Sequence[SlowedSample]) -> dict[Unit, float]:
    """How many times longer each unit takes beside a pull: medians, at least 1."""
    of_kind: dict[Kind, list[float]] = defaultdict(list)
    for sample in samples:
        of_kind[sample.kind].append(sample.ratio)
    return {unit: max(1.0, median(ratios)) for kind, ratios in of_kind.items() for unit in UNITS_OF.get(kind, ())}
