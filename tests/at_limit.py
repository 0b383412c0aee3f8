"""Profiles that know of steps that last, for tests: no shipped one does so far."""

from __future__ import annotations

from collections.abc import Mapping

from dwdp_lab.program.operation import Kind
from dwdp_lab.simulate.hardware import Hardware
from dwdp_lab.simulate.reached import Lasting, Number

USUAL: Mapping[Kind, float] = {"attention": 1.125, "route": 1.0625, "experts": 1.1875}
"""Powers of two in the denominators: products are exact."""


def knows_lasting(
    hardware: Hardware,
    compute: Mapping[Kind, float] = USUAL,
    copies: float | None = 1.03125,
    after_ms: float = 75.0,
) -> Hardware:
    """The profile, which says what it reaches, with these factors."""
    assert hardware.reached is not None

    def number(value: float) -> Number:
        return Number(value=value, source="made up")

    lasting = Lasting(
        compute={kind: number(factor) for kind, factor in compute.items()},
        copies=None if copies is None else number(copies),
        after_ms=number(after_ms),
    )
    return hardware.model_copy(update={"reached": hardware.reached.model_copy(update={"lasting": lasting})})
