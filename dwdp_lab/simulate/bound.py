"""What limits a strategy: compute, link, memory bandwidth or waiting on peers."""

from __future__ import annotations

import math
from typing import Literal

from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.hardware import Hardware
from dwdp_lab.simulate.outcome import Simulate, outcome
from dwdp_lab.simulate.physics import Physics
from dwdp_lab.simulate.reached import Number

Bound = Literal["compute", "link", "memory", "wait"]

FREE = 1e6
"""How many times faster a resource is made to see what it costs."""


def shorter_without(
    scenario: Scenario, hardware: Hardware, physics: Physics, simulate: Simulate = outcome
) -> dict[Bound, float]:
    """By which share a step gets shorter when one limit is taken away: each simulated again without it.

    `wait` is the share that ranks wait on peers, as if nobody were late.
    """
    base = simulate(scenario, hardware, physics).metrics
    if not base.step_ms:
        return {"compute": 0.0, "link": 0.0, "memory": 0.0, "wait": 0.0}

    def without(profile: Hardware, **changes: float) -> float:
        freed = simulate(scenario.model_copy(update=changes), profile, physics).metrics.step_ms
        return 1.0 - freed / base.step_ms

    fast = {precision: _freed(rate) for precision, rate in hardware.tflops.items()}
    return {
        "compute": without(hardware.model_copy(update={"tflops": fast})),
        "link": without(hardware, link_gbps=math.inf),
        "memory": without(hardware.model_copy(update={"hbm_gbps": _freed(hardware.hbm_gbps)})),
        "wait": base.wait_on_peers_ms / base.step_ms,
    }


def bound_of(scenario: Scenario, hardware: Hardware, physics: Physics, simulate: Simulate = outcome) -> Bound:
    """The limit whose removal shortens a step most; of equal ones the first named."""
    shares = shorter_without(scenario, hardware, physics, simulate)
    return max(shares, key=lambda limit: round(shares[limit], 6))


def _freed(number: Number) -> Number:
    return Number(value=number.value * FREE, source=f"made free: {number.source}")
