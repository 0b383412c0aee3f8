"""What is asked for again is simulated once, and no run leaves the garbage collector other than it was."""

from __future__ import annotations

import gc

import pytest

from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate import outcome as outcomes
from dwdp_lab.simulate.hardware import load_hardware
from dwdp_lab.simulate.outcome import Outcome, Remembering, outcome
from dwdp_lab.simulate.physics import BOUND, REALISTIC
from dwdp_lab.simulate.run import run_sim

H100 = load_hardware("h100")


def test_equal_scenarios_are_simulated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Scenario] = []

    def counting(scenario: Scenario, *machine: object) -> Outcome:
        asked.append(scenario)
        return outcome(scenario, *machine)  # type: ignore[arg-type]

    monkeypatch.setattr(outcomes, "outcome", counting)
    simulate, scenario = Remembering(), Scenario.create()
    found = simulate(scenario, H100, BOUND)
    assert simulate(scenario.replace(), load_hardware("h100"), BOUND) is found
    assert found == outcome(scenario, H100, BOUND)
    assert len(asked) == 1
    slower = H100.model_copy(update={"link_gbps": H100.hbm_gbps})
    simulate(scenario, slower, BOUND)
    simulate(scenario, H100, REALISTIC)
    simulate(scenario.replace(link_gbps=1.0), H100, BOUND)
    assert len(asked) == 4


@pytest.mark.parametrize("collecting", [True, False])
def test_a_run_leaves_the_garbage_collector_as_it_was(collecting: bool) -> None:
    before = gc.isenabled()
    try:
        (gc.enable if collecting else gc.disable)()
        run_sim(Scenario.create())
        assert gc.isenabled() is collecting
        with pytest.raises(ScenarioError):
            run_sim(Scenario.create(hardware="laptop"), physics=REALISTIC)
        assert gc.isenabled() is collecting
    finally:
        (gc.enable if before else gc.disable)()
