"""Single kernels to be timed: products, attention, copies within a rank, and the smallest launch. No torch."""

from __future__ import annotations

from typing import NamedTuple

from dwdp_lab.measure.calibration.samples import ComputeSample
from dwdp_lab.measure.transfers.transfers import MachineName
from dwdp_lab.scenario.precision import Precision

JOB = "dwdp_lab.measure.calibration.kernels_rank:measure_kernels"
"""The job that measures a `KernelPlan` and returns a `KernelReport`."""


class Product(NamedTuple):
    """rows x K times K x N."""

    rows: int
    k: int
    n: int

    @property
    def flops(self) -> float:
        return 2.0 * self.rows * self.k * self.n


class Core(NamedTuple):
    """Causal attention of one request."""

    tokens: int
    heads: int
    kv_heads: int
    head_dim: int


class KernelPlan(NamedTuple):
    """What each rank times, all ranks at once. `largest` is multiplied in every precision, the rest in the first.

    Each is timed for about `least_us`. A device whose clock depends on its load does it for `settle_us` before that.
    """

    machine: MachineName
    precisions: tuple[Precision, ...]
    largest: Product
    products: tuple[Product, ...]
    cores: tuple[Core, ...]
    copies: tuple[int, ...]  # bytes
    least_us: float
    settle_us: float = 0.0


class KernelReport(NamedTuple):
    """One rank's times. `peak_tflops` are the best rates per precision; `launch_us` is the time of next to nothing.

    `memory_bytes` is all the memory of its device; `has_e4m3`, whether it multiplies numbers in e4m3.
    """

    samples: tuple[ComputeSample, ...]
    peak_tflops: dict[Precision, float]
    launch_us: float
    memory_bytes: float
    has_e4m3: bool
