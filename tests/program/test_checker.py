"""The checker: ours are clean whatever the scenario; planted bugs are found, each by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from any_scenario import scenarios
from hypothesis import given, settings

from dwdp_lab.program.build import build
from dwdp_lab.program.checker import Hazard, ProgramError, check, check_program, verify
from dwdp_lab.program.dep import dep
from dwdp_lab.program.dwdp import dwdp
from dwdp_lab.program.operation import Op, Program
from dwdp_lab.program.rank_view import RankView, StrategyFunction
from dwdp_lab.scenario.scenario import Scenario


@settings(max_examples=150, deadline=None)
@given(scenarios())
def test_our_strategies_are_clean_for_any_scenario(scenario: Scenario) -> None:
    assert check(build(scenario), scenario) == []


def _scenario(**changes: object) -> Scenario:
    """Two slots, three MoE layers, two steps: the smallest case in which all four shipped bugs bite."""
    fields = {"model.layers": 3, "workload.steps": 2, "workload.cv": 0.0} | changes
    return Scenario.create(model="tiny").replace(**fields)


def _planted(change: Callable[[Op, RankView], Op], **changes: object) -> list[Hazard]:
    scenario = _scenario(**changes)

    def strategy(rank: RankView) -> Iterator[Op]:
        return (change(op, rank) for op in dwdp(rank))

    assert check(build(scenario), scenario) == []
    return check(build(scenario, strategy), scenario)


def _other_slot(op: Op, _: RankView) -> Op:
    """Bug 1: the pull waits for the consumer of the *other* slot, at prefetch distance 2."""
    if op.kind == "pull" and op.slot is not None and f"consumed {op.slot}" in op.waits:
        return op._replace(waits=(f"consumed {1 - op.slot}",))
    return op


def _consumed_too_early(op: Op, _: RankView) -> Op:
    """Bug 2: `consumed` is recorded before the kernel that reads the slot."""
    if op.kind == "route":
        return op._replace(signals=f"consumed {op.layer % 2}")
    return op._replace(signals=None) if op.kind == "experts" else op


def _warm_up_waits_for_nothing(op: Op, _: RankView) -> Op:
    """Bug 3: the first pulls of a new step wait on nothing."""
    return op._replace(waits=()) if op.kind == "pull" and op.layer < 2 else op


def _last_layer_not_covered(op: Op, rank: RankView) -> Op:
    """Bug 4: nobody records that the step's last layer has read its slot."""
    last = op.kind == "experts" and op.layer == rank.layers[-1]
    return op._replace(signals=None) if last else op


@pytest.mark.parametrize(
    ("bug", "layer", "reader"),
    [
        (_other_slot, 2, 0),
        (_consumed_too_early, 2, 0),
        (_warm_up_waits_for_nothing, 1, 2),
        (_last_layer_not_covered, 1, 2),
    ],
)
def test_each_shipped_bug_is_found_as_an_overwrite(bug: Callable[[Op, RankView], Op], layer: int, reader: int) -> None:
    hazards = _planted(bug)
    overwrites = [h for h in hazards if h.fault == "overwrite"]
    assert overwrites, [str(h) for h in hazards]
    assert any(
        f"pull of layer {layer}" in h.message and f"experts of layer {reader}" in h.message for h in overwrites
    ), [str(h) for h in hazards]


def test_reading_before_the_pull_has_ended_is_found() -> None:
    hazards = _planted(lambda op, _: op._replace(waits=()) if op.kind == "experts" else op)
    assert {h.fault for h in hazards} >= {"early read"}


def test_too_long_a_prefetch_overwrites_a_slot_in_use() -> None:
    """Distance 3 with two slots: the pull comes before the layer whose slot it takes."""

    def eager(rank: RankView) -> Iterator[Op]:
        pulls = [rank.pull(0, layer, layer % 2, (), f"pulled {layer % 2}") for layer in rank.layers]
        yield from pulls
        for layer in rank.layers:
            yield rank.attention(0, layer)
            yield rank.route(0, layer)
            yield rank.experts(0, layer, (f"pulled {layer % 2}",), None, layer % 2)

    scenario = _scenario(**{"workload.steps": 1})
    faults = {h.fault for h in check(build(scenario, eager), scenario)}
    assert "stale read" in faults


def test_waiting_for_an_event_signalled_later_is_found() -> None:
    def late(rank: RankView) -> Iterator[Op]:
        *front, last = list(dwdp(rank))
        yield last
        yield from front

    scenario = _scenario(**{"workload.steps": 1})
    faults = {h.fault for h in check(build(scenario, late), scenario)}
    assert "unsignalled wait" in faults


def test_missing_and_repeated_layers_are_found() -> None:
    def forgetful(rank: RankView) -> Iterator[Op]:
        for op in dwdp(rank):
            if (op.kind, op.layer) == ("route", 1):
                continue
            yield op
            if (op.kind, op.layer) == ("attention", 2):
                yield op

    scenario = _scenario()
    found = check(build(scenario, forgetful), scenario)
    assert [h.fault for h in found if h.fault in ("missing", "twice")] == ["missing", "twice"] * 2 * 2


def test_collectives_in_different_order_are_found() -> None:
    scenario = Scenario.create(strategy={"name": "dep", "dep_form": "all_to_all"})
    first, second = build(scenario)
    shorter = Program(1, tuple(op for op in second.ops if (op.kind, op.layer) != ("combine", 0)))
    hazards = check([first, shorter])
    assert any(h.fault == "mismatch" and h.rank == 1 for h in hazards)


def test_verify_raises_with_the_hazards() -> None:
    scenario = _scenario()

    def racy(rank: RankView) -> Iterator[Op]:
        return (op._replace(waits=()) for op in dwdp(rank))

    with pytest.raises(ProgramError, match="rank 0") as caught:
        verify(build(scenario, racy), scenario)
    assert len(caught.value.hazards) > 2


def test_dwdp_has_no_collective_and_dep_has_two_a_layer() -> None:
    scenario = Scenario.create(group={"ranks": 3})
    assert all(op.collective is None for program in build(scenario) for op in program.ops)
    dep = build(scenario.with_strategy("dep"))
    layers = scenario.model.moe_layers
    assert [sum(op.collective is not None for op in p.ops) for p in dep] == [2 * layers] * 3


def _unordered(rank: RankView) -> Iterator[Op]:
    for step in rank.busy_steps:
        for layer in rank.layers:
            yield rank.route(step, layer)
            yield rank.attention(step, layer)
            yield rank.experts(step, layer)


def _tokens_leave_before_they_are_routed(rank: RankView) -> Iterator[Op]:
    return (op._replace(waits=()) if op.kind in ("dispatch", "gather_tokens") else op for op in dep(rank))


def _last_results_stay_away(rank: RankView) -> Iterator[Op]:
    last = rank.layers[-1]
    return (op for op in dep(rank) if op.kind not in ("combine", "reduce_tokens") or op.layer != last)


def _two_copy_lanes(rank: RankView) -> Iterator[Op]:
    return (op._replace(lane="comm") if op.kind == "pull" and op.slot else op for op in dwdp(rank))


def _a_slot_counted_from_the_end(rank: RankView) -> Iterator[Op]:
    """Slot -1 is slot 1 to Python, and another buffer to who compares names."""
    for layer in rank.layers:
        yield rank.attention(0, layer)
        yield rank.route(0, layer)
        yield rank.pull(0, layer, -1, (), "pulled")
        yield rank.experts(0, layer, ("pulled",), None, -1)


@pytest.mark.parametrize(
    ("strategy", "fault", "words"),
    [
        (_unordered, "stale read", "route of layer 0, step 0 reads 'attended"),
        (_tokens_leave_before_they_are_routed, "early read", "before the route of layer 0"),
        (_last_results_stay_away, "missing", "output of layer 2, step 1 is missing"),
        (_two_copy_lanes, "wrong lane", "pull of layer 1, step 0 is on lane 'comm'"),
        (_a_slot_counted_from_the_end, "wrong slot", "uses slot -1"),
    ],
)
def test_what_would_go_wrong_on_a_machine_is_found(strategy: StrategyFunction, fault: str, words: str) -> None:
    scenario = _scenario()
    found = [hazard for hazard in check(build(scenario, strategy), scenario) if hazard.fault == fault]
    assert any(words in hazard.message for hazard in found), found


def test_steps_may_be_interleaved() -> None:
    def both(rank: RankView) -> Iterator[Op]:
        for layer in rank.layers:
            for step in rank.busy_steps:
                yield rank.attention(step, layer)
                yield rank.route(step, layer)
                yield rank.experts(step, layer)

    scenario = _scenario(**{"strategy.name": "replicated"})
    assert check(build(scenario, both), scenario) == []


def test_programs_of_some_ranks_only_are_refused() -> None:
    scenario = _scenario()
    first, second = build(scenario)
    assert check([first, second], scenario) == []
    for programs in ([first], [second, first], [first, first]):
        found = next(hazard for hazard in check(programs, scenario) if hazard.fault == "missing")
        assert (found.rank, found.op) == (-1, -1)
        assert str(found).startswith("the group: programs of ranks [")


def test_an_error_names_the_first_hazard_and_counts_the_others() -> None:
    one, other = (Hazard(0, 0, "missing", name) for name in ("this", "that"))
    assert [str(ProgramError(hazards)) for hazards in ([one], [one, other, other])] == [
        "rank 0: this",
        "rank 0: this (and 2 more)",
    ]


@pytest.mark.parametrize("name", ["dwdp", "dep", "replicated", "weight_gather"])
def test_local_experts_are_merged_whatever_the_scenario_calls_the_strategy(name: str) -> None:
    """A strategy function of one's own runs under any name; without `merge` a merged slot lacks the local experts."""
    scenario = _scenario(**{"strategy.name": name, "strategy.weight_view": "merged"})
    programs = build(scenario, dwdp)
    assert check(programs, scenario) == []
    assert any(op.kind == "merge" for op in programs[0].ops)

    def forgetful(rank: RankView) -> Iterator[Op]:
        return (op for op in dwdp(rank) if op.kind != "merge")

    assert any("local part" in hazard.message for hazard in check(build(scenario, forgetful), scenario))
    alone = build(scenario, forgetful)[0]  # nothing says that its view is merged
    assert check_program(alone) == []
    assert check_program(alone, view_is_merged=True)


def test_experts_need_their_weights() -> None:
    """An operation cannot keep silent about what it reads: the checker knows what each kind touches."""
    without_slot = _planted(lambda op, _: op._replace(slot=None) if op.kind == "experts" else op)
    assert any(h.fault == "wrong slot" and "reads no slot" in h.message for h in without_slot)
    same_slot = _planted(lambda op, _: op._replace(slot=0) if op.kind == "pull" else op)
    assert any(h.fault == "stale read" for h in same_slot)
    elsewhere = _planted(lambda op, _: op._replace(layer=7) if op.kind == "pull" and op.layer == 2 else op)
    assert {h.fault for h in elsewhere} >= {"not there", "stale read"}


def test_two_writes_without_an_order_are_found_though_nothing_reads_in_between() -> None:
    """A gather brings the rank's own experts too, on another lane than what merges them."""

    def merging(waits: tuple[str, ...]) -> Program:
        gather = Op("gather_weights", "comm", 0, 0, (), "gathered", slot=0)
        return Program(0, (gather, Op("merge", "compute", 0, 0, waits, slot=0)))

    (found,) = check_program(merging(()))
    assert (found.op, found.fault) == (1, "overwrite")
    assert "together with the gather_weights of layer 0" in found.message
    assert check_program(merging(("gathered",))) == []


def test_weights_may_stay_in_their_slots_across_steps() -> None:
    def once(rank: RankView) -> Iterator[Op]:
        for layer in rank.layers:
            yield rank.pull(0, layer, layer, (), f"pulled {layer}")
        for step in rank.busy_steps:
            for layer in rank.layers:
                yield rank.attention(step, layer)
                yield rank.route(step, layer)
                yield rank.experts(step, layer, (f"pulled {layer}",), None, layer)

    scenario = _scenario(**{"strategy.slots": 3})
    assert check(build(scenario, once), scenario) == []
