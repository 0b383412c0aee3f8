"""When a pull may begin, by what DWDP's definition says, over whole runs."""

from __future__ import annotations

from any_scenario import scenarios
from hypothesis import given, settings
from hypothesis import strategies as st

from dwdp_lab.program.build import build
from dwdp_lab.program.operation import awaited
from dwdp_lab.scenario.scenario import Scenario


@settings(deadline=None, max_examples=100)
@given(scenarios(names=("dwdp",)), st.data())
def test_a_pull_begins_when_its_slot_is_free_and_its_distance_has_come(scenario: Scenario, data: st.DataObject) -> None:
    """Of the n-th layer with experts in the whole run, d layers ahead, in one of s slots.

    It waits for the experts n - s, whose slot it takes; with d < s also for the router of n - d. Steps do not look
    into each other but with `cross_step`: their first d pulls wait for the last experts of the step before instead.
    """
    slots = data.draw(st.integers(1, 3))
    distance = data.draw(st.integers(0, slots))
    knobs = {"slots": slots, "overlap": distance > 0, "prefetch_distance": distance or None, "pull": "all"}
    scenario = scenario.replace(**{f"strategy.{name}": value for name, value in knobs.items()})
    per_step = scenario.model.moe_layers
    for program in build(scenario):
        places = {(op.kind, op.step, op.layer): index for index, op in enumerate(program.ops)}
        busy = sorted({op.step for op in program.ops})
        occasions = [(step, layer) for step in busy for layer in scenario.model.layers_with_experts]
        waits = awaited(program.ops)
        for number, (step, layer) in enumerate(occasions):
            expected = set()
            if number >= slots:
                expected.add(places["experts", *occasions[number - slots]])
            within = number % per_step if not scenario.strategy.cross_step else number
            if within >= distance:
                if distance < slots:
                    expected.add(places["route", *occasions[number - distance]])
            elif number > within:
                expected.add(places["experts", *occasions[number - within - 1]])
            pull = places["pull", step, layer]
            assert set(waits[pull]) == expected
            assert program.ops[pull].slot == number % slots == program.ops[places["experts", step, layer]].slot
