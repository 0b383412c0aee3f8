"""DEP at its best: whichever of its two ways to exchange tokens is faster on a machine."""

from __future__ import annotations

from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.hardware import Hardware
from dwdp_lab.simulate.outcome import Simulate
from dwdp_lab.simulate.physics import Physics
from dwdp_lab.simulate.shortened import brief


def with_the_faster_dep(scenario: Scenario, hardware: Hardware, physics: Physics, simulate: Simulate) -> Scenario:
    """The scenario with the `dep_form` whose step is shorter, of a few steps; one that names a form keeps it."""
    if scenario.strategy.dep_form != "auto":
        return scenario
    forms = [scenario.replace(**{"strategy.dep_form": form}) for form in ("all_to_all", "all_gather")]
    return min(forms, key=lambda one: simulate(brief(one.with_strategy("dep")), hardware, physics).metrics.step_ms)
