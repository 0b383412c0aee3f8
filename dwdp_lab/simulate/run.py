"""Simulate a scenario: programs, checked, in virtual time."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from dwdp_lab.program.build import build
from dwdp_lab.program.checker import verify
from dwdp_lab.program.rank_view import StrategyFunction
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.cost import CostModel
from dwdp_lab.simulate.hardware import Hardware, load_hardware
from dwdp_lab.simulate.machine import Simulated, run_with_unit_times
from dwdp_lab.simulate.physics import BOUND, Physics
from dwdp_lab.timeline.span import Timeline


class DetailedRun(NamedTuple):
    """A run in virtual time: its timeline, and what the machine knows beside the spans."""

    timeline: Timeline
    simulated: Simulated


def run_sim(
    scenario: Scenario,
    strategy: StrategyFunction | None = None,
    hardware: Hardware | None = None,
    physics: Physics = BOUND,
) -> Timeline:
    """Run the scenario's strategy (or a strategy function of your own) in virtual time.

    `hardware` replaces the profile that the scenario names; `physics` says which effects count. A strategy function of
    your own goes through the checker first; the built-in ones are proven clean by the tests.

    Raises ScenarioError for a profile that is unknown or cannot run the model, ProgramError for a program with a race.
    """
    return run_in_detail(scenario, strategy, hardware, physics).timeline


@contextmanager
def no_collection() -> Iterator[None]:
    """Python looks for no garbage in cycles meanwhile: simulations make none, but so many tuples that looking through
    these, again and again, would take a fifth of their time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@no_collection()
def run_in_detail(
    scenario: Scenario,
    strategy: StrategyFunction | None = None,
    hardware: Hardware | None = None,
    physics: Physics = BOUND,
) -> DetailedRun:
    """The same run with the times of its units and of its meetings at sources. Raises what `run_sim` raises."""
    profile = hardware or load_hardware(scenario.hardware)
    programs = build(scenario, strategy)
    if strategy is not None:
        verify(programs, scenario)
    simulated = run_with_unit_times(programs, CostModel.of(profile, scenario.link_gbps, physics).beside(programs))
    # peaks are a data sheet's limit, whatever else the profile knows
    basis = profile.provenance if physics.efficiency else "limit"
    notes = [f"hardware profile {profile.name} ({basis})"]
    if physics != BOUND:
        notes.append(f"physics: {physics}")
    if scenario.link_gbps is not None:
        notes.append(f"link set to {scenario.link_gbps:g} GB/s")
    batches = scenario.batches
    timeline = Timeline(
        spans=tuple(simulated.spans),
        strategy=scenario.strategy.name if strategy is None else getattr(strategy, "__name__", "own strategy"),
        machine="sim",
        provenance="simulated",
        tokens=tuple(batches.tokens(rank) for rank in range(batches.ranks)),
        steps=batches.steps,
        notes=tuple(notes),
        environment={"hardware": profile.name},
    )
    return DetailedRun(timeline, simulated)
