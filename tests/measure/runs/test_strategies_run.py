"""The grid, the order of its runs, what is kept on the way, and ratios to the best DEP."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwdp_lab.measure.runs.grid import label_of, read_variants, scenarios_of
from dwdp_lab.measure.runs.over_dep import over_best_dep
from dwdp_lab.measure.runs.recorded_runs import RunsFile
from dwdp_lab.measure.runs.strategies_run import Sitting, measure_grid, simulate_grid
from dwdp_lab.measure.turns import turns
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.hardware import load_hardware
from dwdp_lab.simulate.physics import BOUND
from dwdp_lab.simulate.run import run_sim

HERE = {"cpus_allowed": 64, "device": "a device", "date": "2026-11-30T00:00:00"}


def test_variants_are_strategies_with_knobs() -> None:
    variants = read_variants("dep, dwdp:weight_view=merged:slice_bytes=4KiB,dwdp:overlap=false")
    assert [variant.knobs for variant in variants] == [
        {"strategy.name": "dep"},
        {"strategy.name": "dwdp", "strategy.weight_view": "merged", "strategy.slice_bytes": "4KiB"},
        {"strategy.name": "dwdp", "strategy.overlap": False},
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dwpd", ["--strategies", "'dwpd'", "'dwdp'"]),
        ("dwdp:slices=3", ["slices=3", "'slice_bytes'"]),
        ("dwdp:slots", ["needs a strategy"]),
        ("dwdp:name=dep", ["needs a strategy"]),
        ("dwdp:local_expert=3", ["'local_experts'"]),
        ("dwdp:local_experts=[3", ["--strategies", "no value of local_experts", "[3"]),
        ("", ["needs a strategy"]),
    ],
)
def test_what_is_no_variant_is_refused(text: str, words: list[str]) -> None:
    with pytest.raises(ScenarioError) as caught:
        read_variants(text)
    for word in words:
        assert word in str(caught.value)


def _grid(strategies: str = "replicated,dep,dwdp") -> list[Scenario]:
    return scenarios_of(Scenario.create(), [16, 64], [0.0, 0.3], read_variants(strategies), [None, 0.5])


def test_a_grid_has_every_cell_and_dep_in_both_forms() -> None:
    grid = _grid()
    assert len(grid) == 2 * 2 * 2 * 4
    assert Counter(label_of(one) for one in grid) == {
        "replicated": 8,
        "dep:dep_form=all_to_all": 8,
        "dep:dep_form=all_gather": 8,
        "dwdp": 8,
    }
    cells = Counter((one.workload.tokens_per_rank, one.workload.cv, one.link_gbps) for one in grid)  # type: ignore[union-attr]
    assert set(cells.values()) == {4}
    assert all(one.workload.isl_tokens <= one.workload.tokens_per_rank for one in grid)  # type: ignore[union-attr]
    assert len(_grid("dep:dep_form=all_gather")) == 8


def test_labels_read_as_the_variants_they_name() -> None:
    for scenario in _grid("dwdp:slots=3:weight_view=composite:slice_bytes=4KiB:local_experts=6"):
        variant = read_variants(label_of(scenario))[0]
        again = Scenario.create().replace(**variant.knobs)
        assert (again.strategy, again.group) == (scenario.strategy, scenario.group)
        assert label_of(again) == label_of(scenario)


def test_redundant_experts_stand_beside_the_same_rivals() -> None:
    """What a rank keeps is a knob of DWDP: the cell, and so the best DEP and `replicated`, stay the same."""
    texts = ["replicated", "dep", "dwdp", "dwdp:local_experts=6"]
    base = Scenario.create(model={"preset": "tiny"}, group={"ranks": 4})
    grid = scenarios_of(base, [64], [0.3], read_variants(",".join(texts)))
    sitting = Sitting("sim", grid, 1, 0, "", "")
    file = simulate_grid(sitting, load_hardware("h100"), BOUND, lambda _: None)
    assert [row.strategy for row in file.summary if "dep" not in row.strategy] == [texts[0], *texts[2:]]
    assert len({run.cell for run in file.runs}) == 1
    plain, redundant = file.summary[-2:]
    assert plain.best_dep == redundant.best_dep is not None
    assert redundant.step_over_replicated is not None
    assert redundant.step_ms < plain.step_ms, "fewer bytes are pulled"
    one = file.model_copy(update={"summary": []})
    assert RunsFile.model_validate(one.to_dict()).runs[-1].read_scenario.local_experts == 6


def test_a_grid_needs_a_workload_it_can_set() -> None:
    explicit = Scenario.create(workload={"kind": "explicit", "lengths": [[1], [2]]})
    with pytest.raises(ScenarioError, match=r"workload\.kind = 'explicit'"):
        scenarios_of(explicit, [16], [0.0], read_variants("dwdp"))


@given(st.integers(1, 20), st.integers(1, 6), st.integers(0, 9))
def test_every_round_has_everything_once(count: int, repeats: int, seed: int) -> None:
    order = turns(count, repeats, seed)
    for number in range(repeats):
        assert sorted(order[number * count : (number + 1) * count]) == list(range(count))
    assert order == turns(count, repeats, seed)


def test_rounds_are_not_all_alike() -> None:
    order = turns(12, 5, 0)
    assert len({tuple(order[start : start + 12]) for start in range(0, 60, 12)}) > 1


def _sitting(scenarios: list[Scenario]) -> Sitting:
    return Sitting("sim", scenarios, 5, 0, "Simulated", "dwdp-lab bench strategies")


def test_everything_so_far_is_kept_after_every_run() -> None:
    kept: list[RunsFile] = []
    grid = _grid()
    last = simulate_grid(_sitting(grid), load_hardware("h100"), BOUND, kept.append)
    assert [len(file.runs) for file in kept] == list(range(1, len(grid) + 1))
    assert kept[-1] == last
    assert [run.read_scenario for run in last.runs] == grid  # in the grid's order, whatever the runs' was
    assert all(len(run.repeats) == 1 for run in last.runs)
    assert (last.provenance, last.machine, last.ranks) == ("simulated", "sim", 2)


def test_outputs_are_kept_once_and_again_only_where_repeats_differ() -> None:
    """All ranks' hashes in one; what ranks computed counts with its rank."""
    computed = iter([("a", "b"), ("a", "b"), ("b", "a"), ()])

    class Group:
        def run(self, scenario: Scenario) -> Any:
            timeline = replace(run_sim(scenario), notes=("told",), environment=HERE)
            return SimpleNamespace(timeline=timeline, samples=(), output_sha256=next(computed))

    sitting = Sitting("cpu", [Scenario.create()], 4, 0, "four runs", "dwdp-lab bench strategies")
    told: list[float] = []
    file = measure_grid(sitting, Group(), lambda _: None, lambda share, _: told.append(share))  # type: ignore[arg-type]
    (run,) = file.runs
    assert run.outputs == [hashlib.sha256(text).hexdigest() for text in (b"ab", b"ba")]
    assert run.notes == ["told"]
    assert told == [0.0, 0.25, 0.5, 0.75]


def test_an_interrupt_loses_only_the_run_it_stopped() -> None:
    kept: list[RunsFile] = []

    def stop_after_three(file: RunsFile) -> None:
        kept.append(file)
        if len(file.runs) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_grid(_sitting(_grid()), load_hardware("h100"), BOUND, stop_after_three)
    assert len(kept[-1].runs) == 3


def test_ratios_are_to_the_faster_form_of_dep_in_the_same_cell() -> None:
    file = simulate_grid(_sitting(_grid()), load_hardware("h100"), BOUND, lambda _: None)
    ratios = over_best_dep(file.runs)
    for ratio in ratios:
        deps = [
            one.figures.tokens_per_s
            for one in file.runs
            if one.cell == ratio.run.cell and "dep" in one.scenario["strategy"]["name"]
        ]
        assert len(deps) == 2
        assert ratio.over_dep == pytest.approx(ratio.run.figures.tokens_per_s / max(deps))
        assert ratio.best_dep is not None
        assert ratio.best_dep.startswith("dep:")
    assert max(ratio.over_dep or 0 for ratio in ratios if ratio.label.startswith("dep")) == 1.0


def test_without_dep_there_is_no_ratio() -> None:
    file = simulate_grid(_sitting(_grid("dwdp")), load_hardware("h100"), BOUND, lambda _: None)
    assert {ratio.over_dep for ratio in over_best_dep(file.runs)} == {None}
