"""Large groups: they run, in work that stays in proportion (counted, not timed)."""

from __future__ import annotations

import pytest

from dwdp_lab.program.build import build
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.cost import CostModel
from dwdp_lab.simulate.hardware import load_hardware
from dwdp_lab.simulate.machine import _Machine
from dwdp_lab.simulate.physics import REALISTIC
from dwdp_lab.simulate.run import run_sim
from dwdp_lab.timeline.metrics import metrics


def _r1(ranks: int, order: str, slices: str | None) -> Scenario:
    return Scenario.create(
        model="deepseek-r1-nvfp4",
        hardware="gb200",
        group={"ranks": ranks},
        workload={"tokens_per_rank": 16384, "cv": 0.1, "isl_tokens": 8192},
        strategy={"peer_order": order, "slice_bytes": slices},
    )


@pytest.mark.parametrize(("order", "slices"), [("rotated", None), ("ascending", None), ("interleaved", "1MiB")])
def test_a_rack_of_72_ranks_with_all_effects(order: str, slices: str | None) -> None:
    scenario = _r1(72, order, slices)
    timeline = run_sim(scenario, hardware=load_hardware("gb200"), physics=REALISTIC)
    assert len({span.rank for span in timeline.spans}) == 72
    assert sum(span.kind == "pull" for span in timeline.spans) == 72 * 58
    assert metrics(timeline).wait_on_peers_ms == 0


@pytest.mark.parametrize(("order", "slices"), [("rotated", None), ("interleaved", "1MiB")])
def test_events_grow_with_the_operations_and_not_faster(order: str, slices: str | None) -> None:
    """The machine's own heap: one event per operation, and a few more per piece of compute that is disturbed."""
    scenario = _r1(8, order, slices)
    machine = _Machine(build(scenario), CostModel.of(load_hardware("gb200"), None, REALISTIC))
    machine.run()
    pieces = sum(max(1, len(op.work)) for rank in machine.ranks for op in rank.ops)
    assert machine.order < 2 * pieces
