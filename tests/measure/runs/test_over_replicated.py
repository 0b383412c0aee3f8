"""Times over those of `replicated`: what pulls cost the operations beside them."""

from __future__ import annotations

import pytest

from dwdp_lab.measure.runs.figures import Figures
from dwdp_lab.measure.runs.grid import read_variants, scenarios_of
from dwdp_lab.measure.runs.over_replicated import over_replicated
from dwdp_lab.measure.runs.recorded_runs import Run
from dwdp_lab.measure.runs.summary import summary_of
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.physics import BOUND, REALISTIC, Physics
from dwdp_lab.simulate.run import run_sim

QWEN = {"preset": "qwen3-30b-a3b", "layers": 4}


def runs(strategies: str, physics: Physics) -> list[Run]:
    grid = scenarios_of(Scenario.create(model=QWEN, group={"ranks": 4}), [8192], [0.0, 0.2], read_variants(strategies))
    return [Run(scenario=one.to_dict(), repeats=[Figures.of(run_sim(one, physics=physics))]) for one in grid]


def test_where_copies_disturb_nothing_every_kind_takes_as_long() -> None:
    found = over_replicated(runs("replicated,dep,dwdp,weight_gather,tensor", BOUND))
    assert len(found) == 2 * 6
    for one in found:
        assert one is not None
        assert one.same_bits is None  # nothing is computed in virtual time
        assert one.kinds == pytest.approx(dict.fromkeys(one.kinds, 1.0))
    kinds = [set(one.kinds) for one in found[:6] if one is not None]
    own, experts = {"attention", "route"}, {"attention", "route", "experts"}
    assert kinds == [set(), own, own, experts, experts, set()]


def test_pulls_cost_what_computes_beside_them() -> None:
    replicated, alone, beside = over_replicated(runs("replicated,dwdp:overlap=false,dwdp", REALISTIC))[:3]
    assert replicated is not None
    assert replicated.step == 1.0
    assert alone is not None
    assert beside is not None
    assert all(beside.kinds[kind] > alone.kinds[kind] - 1e-9 for kind in ("attention", "route", "experts"))
    assert beside.kinds["attention"] > 1.01
    assert alone.step > beside.step > 1.0


def test_without_replicated_there_is_no_ratio() -> None:
    some = runs("dep,dwdp", BOUND)
    assert set(over_replicated(some)) == {None}
    assert {row.step_over_replicated for row in summary_of(some)} == {None}


def test_rows_say_both_ratios() -> None:
    rows = summary_of(runs("replicated,dep,dwdp", REALISTIC))
    last = rows[-1]
    assert (last.strategy, last.tokens, last.cv) == ("dwdp", 8192, 0.2)
    assert last.over_best_dep is not None
    assert last.step_over_replicated == pytest.approx(last.step_ms / rows[4].step_ms)
    assert last.exposed_copy_pct is not None
    assert 0 <= last.exposed_copy_pct < 100
    figures = Figures(
        step_ms=8.0,
        compute_ms=4.0,
        communication_ms=0.0,
        exposed_copy_ms=2.0,
        wait_on_peers_ms=1.0,
        idle_ms=1.0,
        overlap_pct=0.0,
        tokens_per_s=100.0,
    )
    some = runs("dwdp", REALISTIC)[0].model_copy(update={"repeats": [figures]})
    assert summary_of([some])[0].exposed_copy_pct == 25.0


def test_same_bits_are_those_of_all_repeats_of_both() -> None:
    usual, ours = runs("replicated,dwdp", BOUND)[:2]

    def told(of_usual: list[str], of_ours: list[str]) -> bool | None:
        pair = [usual.model_copy(update={"outputs": of_usual}), ours.model_copy(update={"outputs": of_ours})]
        found = over_replicated(pair)[1]
        assert found is not None
        return found.same_bits

    assert told(["a"], ["a"]) is True
    assert told(["a"], ["b"]) is False
    assert told(["a"], ["a", "b"]) is False  # a repeat computed something else
    assert told(["a", "b"], ["a", "b"]) is False
    assert told([], ["a"]) is None
