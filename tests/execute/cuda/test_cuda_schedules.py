"""Programs on streams, whatever order the GPU takes: DWDP gives replicated's bits, and the shipped races show."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rank_scenarios import assert_equals_oracle
from stand_in_group import StandInGroup, start_at_once

from dwdp_lab.execute.cuda import run_order
from dwdp_lab.execute.cuda.rank_machine import RankMachine
from dwdp_lab.execute.cuda.setup import Setup
from dwdp_lab.program.build import build
from dwdp_lab.program.checker import check
from dwdp_lab.program.operation import Program
from dwdp_lab.program.rank_view import StrategyFunction
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.teach import races

# experts of 12 and 6 KiB in pages of 4 KiB: views meet whole and shared pages
MODEL: dict[str, Any] = {
    "name": "test",
    "layers": 5,
    "hidden": 32,
    "attention": {"kind": "gqa", "heads": 2, "kv_heads": 1, "head_dim": 16},
    "experts": 8,
    "top_k": 3,
    "expert_intermediate": 48,
    "shared_experts": 1,
    "dense_layers": 1,
    "dense_intermediate": 48,
    "dtype": "fp32",
    "expert_dtype": "fp32",
}
MOE_ONLY = MODEL | {"name": "moe", "layers": 4, "dense_layers": 0, "dense_intermediate": 0}
WORKLOAD = {"kind": "cv", "tokens_per_rank": 10, "cv": 0.4, "isl_tokens": 6, "steps": 3, "prefix_hit": 0.3}


def scenario(ranks: int, model: dict[str, Any] = MODEL, **changes: Any) -> Scenario:
    return Scenario.create(model=model, group={"ranks": ranks}, workload=WORKLOAD).replace(**changes)


class Group:
    """Ranks that are made once for many schedules, and what replicated weights give."""

    def __init__(self, base: Scenario) -> None:
        self.base = base
        self.ranks = StandInGroup(base.ranks)
        self.expected = self.hashes(base.with_strategy("replicated"), 0)

    def hashes(self, work: Scenario, seed: int, strategy: StrategyFunction | None = None) -> list[str]:
        return self.hashes_of(build(work, strategy), seed, work)

    def hashes_of(self, programs: Sequence[Program], seed: int, work: Scenario | None = None) -> list[str]:
        self.ranks.schedule(seed)
        return [report.output_sha256 for report in self.ranks.run(work or self.base, programs)]


@pytest.fixture(scope="module", autouse=True)
def at_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        start_at_once(patch)
        patch.setattr("dwdp_lab.execute.cuda.run_order.warm_up", partial(warm_up_and_spoil, run_order.warm_up))
        yield


def warm_up_and_spoil(warm_up: Callable[..., None], machine: RankMachine, setup: Setup, *which: Any) -> None:
    """Warming up leaves the right weights in the slots: without them a read that comes too early shows."""
    warm_up(machine, setup, *which)
    for copies in setup.experts.copies_of.values():
        for target, _, nbytes in copies:
            ctypes.memset(target, 0xFF, nbytes)  # NaN


@pytest.fixture(scope="module")
def groups() -> Iterator[Callable[[int, str], Group]]:
    made: dict[tuple[int, str], Group] = {}
    models = {
        "test": MODEL,
        "moe": MOE_ONLY,
        "bf16": MODEL | {"name": "bf16", "dtype": "bf16", "expert_dtype": "bf16"},
        "e4m3": MODEL | {"name": "e4m3", "dtype": "bf16", "expert_dtype": "fp8_channel"},
    }

    def group(ranks: int, model: str = "test") -> Group:
        if (ranks, model) not in made:
            made[ranks, model] = Group(scenario(ranks, models[model]))
        return made[ranks, model]

    yield group
    for each in made.values():
        each.ranks.close()


@st.composite
def knobs(draw: st.DrawFn) -> dict[str, Any]:
    slots = draw(st.integers(1, 3))
    return {
        "strategy.slots": slots,
        "strategy.prefetch_distance": draw(st.sampled_from([None, *range(1, slots + 1)])),
        "strategy.weight_view": draw(st.sampled_from(["split", "merged", "composite"])),
        "strategy.peer_order": draw(st.sampled_from(["ascending", "rotated", "interleaved", "permutation"])),
        "strategy.slice_bytes": draw(st.sampled_from([None, 1024, 5000, 20000])),
        "strategy.cross_step": draw(st.booleans()),
        "strategy.overlap": draw(st.booleans()),
    }


@pytest.mark.parametrize("weight_view", ["split", "merged", "composite"])
@settings(max_examples=70, deadline=None)
@given(knobs(), st.integers(2, 3), st.integers(0, 2**20))
def test_dwdp_gives_the_bits_of_replicated_weights(
    groups: Callable[..., Group], weight_view: str, knobs: dict[str, Any], ranks: int, seed: int
) -> None:
    group = groups(ranks)
    work = group.base.replace(**knobs | {"strategy.weight_view": weight_view})
    assert group.hashes(work, seed) == group.expected


@pytest.mark.parametrize("model", ["bf16", "e4m3"])
@settings(max_examples=30, deadline=None)
@given(knobs(), st.integers(0, 2**20))
def test_in_other_types_too(groups: Callable[..., Group], model: str, knobs: dict[str, Any], seed: int) -> None:
    group = groups(2, model)
    assert group.hashes(group.base.replace(**knobs), seed) == group.expected


@settings(max_examples=40, deadline=None)
@given(knobs(), st.sampled_from(["routed", "all"]), st.sampled_from([3, 5, 8]), st.integers(0, 2**20))
def test_pulls_of_routed_experts_and_overlapping_windows(
    groups: Callable[..., Group], knobs: dict[str, Any], pull: str, local: int, seed: int
) -> None:
    group = groups(3)
    work = group.base.replace(**knobs, **{"group.local_experts": local, "strategy.pull": pull})
    assert group.hashes(work, seed) == group.expected


@pytest.mark.parametrize("model", ["test", "e4m3"])
@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("strategy", ["weight_gather", "pipeline"])
def test_other_ways_to_the_same_bits(groups: Callable[..., Group], strategy: str, seed: int, model: str) -> None:
    for ranks in (2, 3):
        group = groups(ranks, model)
        assert group.hashes(group.base.replace(**{"strategy.name": strategy}), seed) == group.expected


FORMS: list[dict[str, Any]] = [
    {"strategy.name": "dep", "strategy.dep_form": "all_gather"},
    {"strategy.name": "dep", "strategy.dep_form": "all_to_all", "strategy.dep_rows": "per_rank"},
    {"strategy.name": "dep", "strategy.dep_form": "all_to_all", "strategy.dep_rows": "per_expert"},
    {"strategy.name": "tensor"},
]


@pytest.mark.parametrize("model", ["test", "bf16", "e4m3"])
@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(form.values()))
def test_strategies_that_move_tokens_compute_the_model(
    groups: Callable[..., Group], form: dict[str, Any], model: str
) -> None:
    """Within what rounding explains; and the same whatever the schedule."""
    group = groups(2, model)
    work = group.base.replace(**form)
    found = []
    for seed in range(8):
        group.ranks.schedule(seed)
        reports = group.ranks.run(work)
        found.append([report.output_sha256 for report in reports])
    assert all(hashes == found[0] for hashes in found)
    outputs, routing = (tuple(getattr(report, name) for report in reports) for name in ("outputs", "routing"))
    assert_equals_oracle(work, SimpleNamespace(outputs=outputs, routing=routing))  # type: ignore[arg-type]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(form.values()))
def test_a_rank_without_tokens_and_one_with_a_single_one(groups: Callable[..., Group], form: dict[str, Any]) -> None:
    group = groups(3)
    uneven = {"kind": "explicit", "lengths": [[7, 2], [], [1]]}
    work = group.base.replace(**form).replace(workload=uneven)
    group.ranks.schedule(1)
    reports = group.ranks.run(work)
    outputs, routing = (tuple(getattr(report, name) for report in reports) for name in ("outputs", "routing"))
    assert_equals_oracle(work, SimpleNamespace(outputs=outputs, routing=routing))  # type: ignore[arg-type]


ONE_STEP = (races.other_slot, races.too_early)


@pytest.mark.parametrize("race", [*ONE_STEP, races.new_step, races.last_layer], ids=lambda race: race.__name__)
def test_a_shipped_race_gives_wrong_outputs(race: StrategyFunction) -> None:
    """The checker names it; past the checker some schedules read weights of another layer, or half of each."""
    group = Group(scenario(2, MOE_ONLY, **{"workload.steps": 1 if race in ONE_STEP else 3}))
    assert check(build(group.base, race), group.base)
    wrong = [group.hashes(group.base, seed, race) != group.expected for seed in range(20)]
    assert any(wrong)
    assert not all(wrong)  # which is why running a program a few times does not find it
    assert [group.hashes(group.base, seed) for seed in range(20)] == [group.expected] * 20
    group.ranks.close()


def without_one_wait(program: Program) -> Iterator[Program]:
    """The program again and again, each time with another wait left out."""
    for index, op in enumerate(program.ops):
        for left_out in op.waits:
            kept = op._replace(waits=tuple(name for name in op.waits if name != left_out))
            yield replace(program, ops=(*program.ops[:index], kept, *program.ops[index + 1 :]))


MANY = 150
"""Schedules among which the least likely of these races shows; most show among the first three."""


@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"strategy.slots": 3, "strategy.prefetch_distance": 1, "strategy.cross_step": True},
        {"strategy.weight_view": "merged", "strategy.slots": 1},
    ],
    ids=["default", "distance 1 of 3", "merged"],
)
def test_a_wait_left_out_shows_exactly_where_the_checker_says(knobs: dict[str, Any]) -> None:
    """What the checker proves and what machines do agree. Some waits only pace pulls, or follow from others."""
    group = Group(scenario(2, MOE_ONLY, **{"workload.steps": 2}, **knobs))
    first, second = build(group.base)
    refused = 0
    for mutant in without_one_wait(first):
        programs = [mutant, second]
        if check(programs, group.base):
            refused += 1
            assert any(group.hashes_of(programs, seed) != group.expected for seed in range(MANY)), mutant
        else:
            assert all(group.hashes_of(programs, seed) == group.expected for seed in range(10)), mutant
    assert refused >= 8  # every experts' wait for its pull, at least
    group.ranks.close()
