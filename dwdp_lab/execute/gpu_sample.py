"""What a GPU's own sensors say during a run."""

from __future__ import annotations

from typing import NamedTuple


class GpuSample(NamedTuple):
    """One look at one GPU; None for what it does not tell. Sensors average over some tens of milliseconds."""

    at_us: float
    """on the run's clock"""
    sm_mhz: float | None
    power_w: float | None
    utilisation_pct: float | None
    """share of the last sensor period with any kernel running"""
    throttled: tuple[str, ...]
    """why the clock is lower than it could be, if it is"""
    nvlink_sent_gbps: float | None
    """1e9 bytes/s since the sample before, all links together"""
    nvlink_received_gbps: float | None
