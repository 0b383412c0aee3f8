"""The checker against every order in which ranks can run: programs of two ranks, changed at random."""

from __future__ import annotations

import random
from typing import Any

import pytest
from all_orders import goes_wrong
from hypothesis import given, settings
from hypothesis import strategies as st

from dwdp_lab.program.build import build
from dwdp_lab.program.checker import check
from dwdp_lab.program.operation import Op, Program
from dwdp_lab.scenario.scenario import Scenario

OF_ORDER = {"early read", "overwrite", "stale read", "deadlock", "mismatch"}
"""What only some order of the operations brings out; the rest is wrong in any."""


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    layers = draw(st.integers(1, 2))
    strategy = {
        "name": draw(st.sampled_from(["replicated", "dep", "weight_gather", "dwdp", "tensor", "pipeline"])),
        "slots": draw(st.integers(1, 2)),
        "prefetch_distance": draw(st.sampled_from([None, 1])),
        "weight_view": draw(st.sampled_from(["merged", "split"])),
        "pull": draw(st.sampled_from(["all", "routed"])),
    }
    return Scenario.create(
        model={"preset": "tiny", "layers": layers},
        group={"ranks": 2},
        strategy=strategy,
        workload={"kind": "explicit", "lengths": draw(st.sampled_from([[[5], [7]], [[5], []]]))},
    )


def _changed(ops: list[Op], how: str, at: int, to: int) -> list[Op]:
    at %= len(ops)
    op, signals = ops[at], [one.signals for one in ops if one.signals]
    match how:
        case "left out":
            ops.pop(at)
        case "moved":
            ops.insert(to % len(ops), ops.pop(at))
        case "waits for less":
            ops[at] = op._replace(waits=op.waits[1:])
        case "waits for more" if signals:
            ops[at] = op._replace(waits=(*op.waits, signals[to % len(signals)]))
        case "silent":
            ops[at] = op._replace(signals=None)
        case "in the other slot" if op.slot is not None:
            ops[at] = op._replace(slot=1 - op.slot)
    return ops


CHANGES = ("left out", "moved", "waits for less", "waits for more", "silent", "in the other slot")


def _changed_programs(scenario: Scenario, seed: int) -> list[Program]:
    """One or two changes, on one rank or on both alike."""
    drawn, programs = random.Random(seed), list(build(scenario))
    for _ in range(drawn.randint(1, 2)):
        how, at, to, both = drawn.choice(CHANGES), drawn.randrange(99), drawn.randrange(99), drawn.random() < 0.4
        chosen = drawn.randrange(2)
        for number, program in enumerate(programs):
            if program.ops and (both or number == chosen):
                programs[number] = Program(program.rank, tuple(_changed([*program.ops], how, at, to)))
    return programs


@settings(max_examples=150, deadline=None)
@given(scenarios(), st.integers(0, 1 << 30))
def test_what_is_found_clean_goes_right_in_every_order_and_the_rest_goes_wrong_in_some(
    scenario: Scenario, seed: int
) -> None:
    programs = _changed_programs(scenario, seed)
    faults = {hazard.fault for hazard in check(programs, scenario)}
    if "unsignalled wait" in faults:
        with pytest.raises(LookupError):
            goes_wrong(programs, scenario.strategy.weight_view == "merged")
        return
    wrong = goes_wrong(programs, scenario.strategy.weight_view == "merged")
    if not faults:
        assert not wrong
    elif faults <= OF_ORDER:
        assert wrong is not False


@pytest.mark.parametrize("name", ["replicated", "dep", "weight_gather", "dwdp", "tensor", "pipeline"])
def test_ours_go_right_in_every_order(name: Any) -> None:
    scenario = Scenario.create(
        model={"preset": "tiny", "layers": 2},
        group={"ranks": 2},
        strategy={"name": name},
        workload={"kind": "explicit", "lengths": [[5], [7]]},
    )
    assert goes_wrong(build(scenario), scenario.strategy.weight_view == "merged") is False
