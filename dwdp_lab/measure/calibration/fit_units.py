"""From times of compute to what each unit reaches, and what operations take beside it. No torch.

The cost model of the simulator (simulate/cost.py) turned round. An operation takes a fixed time of its kind, and each
of its pieces of work

    max(flops / (e peak) (1 + h / rows), bytes / bandwidth)
    bytes / (e bandwidth), without FLOPs

where a unit has one e, but activations have one for every kind of operation, as these read and write theirs more or
less often. That is linear in the fixed times, 1 / e and h / e as long as one knows which side of the maximum counts.
Which it is is decided from the result, and decided again until it stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dwdp_lab.measure.calibration.robust_fit import Floats, robust_fit
from dwdp_lab.measure.calibration.samples import ComputeSample
from dwdp_lab.program.operation import Kind, Unit, Work
from dwdp_lab.scenario.precision import Precision

Key = tuple[str, str]
"""A parameter: ("fixed", kind or name of a kernel), ("activations", the same), ("unit", unit) or ("rows", "")."""

TURNS = 6
"""As often the side of the maximum is decided; it stays after two or three."""


@dataclass(frozen=True)
class Peaks:
    """Rates that efficiencies are shares of: 1e12 FLOP/s per precision, 1e9 bytes/s of memory."""

    tflops: Mapping[Precision, float]
    hbm_gbps: float

    def compute_us(self, work: Work) -> float:
        """A piece's FLOPs at the peak."""
        return work.flops / (self.tflops[work.dtype] * 1e6) if work.flops else 0.0

    def memory_us(self, work: Work) -> float:
        """A piece's bytes at the memory's rate."""
        return work.hbm_bytes / (self.hbm_gbps * 1e3)


@dataclass(frozen=True)
class Units:
    """What was found for all that samples had any of. `error` is the median relative error of the samples.

    `activations` and `fixed_us` go by the kind of operation, or by the name of a single kernel.
    """

    efficiency: dict[Unit, float]
    half_rows: float | None
    activations: dict[str, float]
    fixed_us: dict[str, float]
    error: float = 0.0

    def us(self, sample: ComputeSample, peaks: Peaks) -> float:
        """What the cost model makes of a sample's work."""
        name = name_of(sample)
        return self.fixed_us.get(name, 0.0) + sum(self._piece_us(piece, name, peaks) for piece in sample.work)

    def _piece_us(self, piece: Work, name: str, peaks: Peaks) -> float:
        if piece.unit == "activations":
            return peaks.memory_us(piece) / self.activations.get(name, 1.0)
        if not piece.flops:
            return peaks.memory_us(piece) / self.efficiency.get(piece.unit, 1.0)
        return max(self.compute_us(piece, peaks), peaks.memory_us(piece))

    def compute_us(self, piece: Work, peaks: Peaks) -> float:
        """A piece's FLOPs at what its unit reaches."""
        longer = 1.0
        if piece.rows_per_expert and self.half_rows is not None:
            longer += self.half_rows / piece.rows_per_expert
        return peaks.compute_us(piece) / self.efficiency.get(piece.unit, 1.0) * longer


def name_of(sample: ComputeSample) -> str:
    """The kind of an operation, the name of a kernel."""
    return sample.kind or sample.what


def fit_units(samples: Sequence[ComputeSample], peaks: Peaks) -> Units:
    """The parameters that explain the samples best. Raises ValueError for fewer samples than parameters."""
    bound = [[peaks.memory_us(piece) > 2.0 * peaks.compute_us(piece) for piece in one.work] for one in samples]
    found = _solve(samples, bound, peaks)
    for _ in range(TURNS):
        again = [[peaks.memory_us(piece) > found.compute_us(piece, peaks) for piece in one.work] for one in samples]
        if again == bound:
            break
        bound, found = again, _solve(samples, again, peaks)
    return replace(found, error=float(np.median([abs(found.us(one, peaks) / one.us - 1.0) for one in samples])))


def _solve(samples: Sequence[ComputeSample], bound: Sequence[Sequence[bool]], peaks: Peaks) -> Units:
    """The parameters, given which pieces with FLOPs are held up by the memory."""
    keys = sorted({key for one in samples for key in _costs(one, [False] * len(one.work), peaks)})
    place = {key: number for number, key in enumerate(keys)}
    costs: Floats = np.zeros((len(samples), len(keys)))
    left: Floats = np.zeros(len(samples))
    for row, (one, sides) in enumerate(zip(samples, bound, strict=True)):
        known_us = sum(
            peaks.memory_us(piece) for piece, side in zip(one.work, sides, strict=True) if side and piece.flops
        )
        left[row] = one.us - known_us
        for key, cost in _costs(one, sides, peaks).items():
            costs[row, place[key]] = cost
    usable = left > 0.2 * np.array([one.us for one in samples])  # the rest says little beyond the memory's rate
    found = dict(zip(keys, robust_fit(costs[usable], left[usable]).tolist(), strict=True))
    inverse: dict[Unit, float] = {name: x for (what, name), x in found.items() if what == "unit" and x > 0.0}  # type: ignore[misc]
    slope, rows = inverse.get("grouped_gemm", 0.0), found.get(("rows", ""), 0.0)
    return Units(
        {unit: 1.0 / x for unit, x in inverse.items()},
        rows / slope if slope > 0.0 and rows > 0.0 else None,
        {name: 1.0 / x for (what, name), x in found.items() if what == "activations" and x > 0.0},
        {name: x for (what, name), x in found.items() if what == "fixed" and x > 0.0},
    )


def _costs(sample: ComputeSample, sides: Sequence[bool], peaks: Peaks) -> dict[Key, float]:
    """By how much each parameter lengthens a sample."""
    name = name_of(sample)
    costs: dict[Key, float] = {("fixed", name): 1.0}

    def add(key: Key, us: float) -> None:
        costs[key] = costs.get(key, 0.0) + us

    for piece, memory_bound in zip(sample.work, sides, strict=True):
        if piece.unit == "activations":
            add(("activations", name), peaks.memory_us(piece))
        elif not piece.flops:
            add(("unit", piece.unit), peaks.memory_us(piece))
        elif not memory_bound:
            add(("unit", piece.unit), peaks.compute_us(piece))
            if piece.rows_per_expert:
                add(("rows", ""), peaks.compute_us(piece) / piece.rows_per_expert)
    return costs


OPERATIONS: tuple[Kind, ...] = ("attention", "route", "experts", "merge")
"""Kinds of operations that calibration measures."""
