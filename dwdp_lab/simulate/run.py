"""Simulate a scenario: programs, checked, in virtual time."""

from __future__ import annotations

from dwdp_lab.program.build import build
from dwdp_lab.program.checker import verify
from dwdp_lab.program.rank_view import StrategyFunction
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.cost import CostModel
from dwdp_lab.simulate.hardware import Hardware, load_hardware
from dwdp_lab.simulate.machine import run_programs
from dwdp_lab.simulate.physics import BOUND, Physics
from dwdp_lab.timeline.span import Timeline


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
    profile = hardware or load_hardware(scenario.hardware)
    programs = build(scenario, strategy)
    if strategy is not None:
        verify(programs, scenario)
    spans = run_programs(programs, CostModel.of(profile, scenario.link_gbps, physics))
    # peaks are a data sheet's limit, whatever else the profile knows
    basis = profile.provenance if physics.efficiency else "limit"
    notes = [f"hardware profile {profile.name} ({basis})"]
    if scenario.link_gbps is not None:
        notes.append(f"link set to {scenario.link_gbps:g} GB/s")
    batches = scenario.batches
    return Timeline(
        spans=tuple(spans),
        strategy=scenario.strategy.name if strategy is None else getattr(strategy, "__name__", "own strategy"),
        machine="sim",
        provenance="simulated",
        tokens=tuple(batches.tokens(rank) for rank in range(batches.ranks)),
        steps=batches.steps,
        notes=tuple(notes),
        environment={"hardware": profile.name},
    )
