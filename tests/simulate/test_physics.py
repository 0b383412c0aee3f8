"""What the switches may and may not do."""

from __future__ import annotations

import heapq
import itertools
import math
from dataclasses import replace

import pytest
from any_scenario import scenarios
from hypothesis import given, settings
from hypothesis import strategies as st

from dwdp_lab.program.build import build
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.strategy import StrategyName
from dwdp_lab.simulate.cost import CostModel
from dwdp_lab.simulate.hardware import load_hardware
from dwdp_lab.simulate.machine import _COMPUTE_PIECE, _Machine, run_programs
from dwdp_lab.simulate.outcome import outcome
from dwdp_lab.simulate.physics import BOUND, REALISTIC, SWITCHES, Physics, physics_named
from dwdp_lab.simulate.run import run_sim
from dwdp_lab.timeline.metrics import metrics

PROFILES = ("h100", "gb200")
FITTED = st.sampled_from(PROFILES)
ADDED = tuple(switch for switch in SWITCHES if switch not in ("shared_links", "lasting"))  # see test_lasting.py
SOME_PHYSICS = st.sets(st.sampled_from(ADDED)).map(lambda on: Physics(**dict.fromkeys(on, True)))


def _end_us(scenario: Scenario, profile: str, physics: Physics, link_gbps: float | None = None) -> float:
    spans = run_programs(build(scenario), CostModel.of(load_hardware(profile), link_gbps, physics))
    return max((span.end_us for span in spans), default=0.0)


@settings(deadline=None, max_examples=60)
@given(scenarios(), FITTED, SOME_PHYSICS)
def test_no_result_beats_the_bound_of_its_compute_and_of_its_links(
    scenario: Scenario, profile: str, physics: Physics
) -> None:
    """Whatever is switched on: no rank ends before its own work at data-sheet rates, nor its pulls over its link."""
    programs, bound = build(scenario), CostModel.of(load_hardware(profile))
    spans = run_programs(programs, CostModel.of(load_hardware(profile), None, physics))
    for program in programs:
        end = max((span.end_us for span in spans if span.rank == program.rank), default=0.0)
        assert end >= sum(bound.work_us(op.work) for op in program.ops) * (1 - 1e-9)
        pulled = sum(op.pull.nbytes for op in program.ops if op.pull is not None)
        assert end >= pulled / bound.link_bytes_per_us * (1 - 1e-9)


@settings(deadline=None, max_examples=60)
@given(
    scenarios(names=("dep", "weight_gather", "replicated")),
    FITTED,
    st.booleans(),
    st.floats(0.1, 1000),
    st.floats(1.0, 10.0),
)
def test_without_interference_a_faster_link_never_slows_what_exchanges_together(
    scenario: Scenario, profile: str, efficient: bool, link: float, faster: float
) -> None:
    physics = Physics(efficiency=efficient, activations=efficient, latencies=efficient)
    assert _end_us(scenario, profile, physics, link * faster) <= _end_us(scenario, profile, physics, link) * (1 + 1e-9)


@settings(deadline=None, max_examples=60)
@given(scenarios(names=("dwdp",)), st.floats(0.1, 1000), st.floats(1.0, 10.0))
def test_without_interference_a_faster_link_never_slows_dwdp(scenario: Scenario, link: float, faster: float) -> None:
    """Of two ranks, and of more when nobody shares: where ranks meet at a source depends on when they come."""
    if scenario.workload.kind == "explicit":
        return  # its lists are one per rank
    two = scenario.replace(group={"ranks": 2})
    alone = Physics(shared_links=False)
    for one, physics in ((two, BOUND), (scenario, alone)):
        assert _end_us(one, "h100", physics, link * faster) <= _end_us(one, "h100", physics, link) * (1 + 1e-9)


@settings(deadline=None, max_examples=40)
@given(scenarios(), FITTED)
def test_compute_is_slowed_only_while_something_is_transferred(scenario: Scenario, profile: str) -> None:
    """A rank's compute takes at least as long as alone, and no longer than if all of it were disturbed."""
    cost = CostModel.of(load_hardware(profile), None, REALISTIC)
    programs = build(scenario)
    spans = run_programs(programs, cost)
    transfers = [(s.start_us, s.end_us) for s in spans if s.lane != "compute" and s.kind != "wait_peers"]
    alone = {p.rank: iter([cost.work_us(op.work) for op in p.ops if op.lane == "compute"]) for p in programs}
    for span in spans:
        if span.lane != "compute" or span.kind == "wait_peers":
            continue
        expected = next(alone[span.rank])  # a lane runs its operations in order
        before = max((end for start, end in transfers if start < span.end_us), default=0.0)
        if before <= 0.0:  # nothing was ever transferred until now
            assert span.duration_us == pytest.approx(expected, rel=1e-6)
    for program in programs:
        took = sum(s.duration_us for s in spans if s.rank == program.rank and s.lane == "compute")
        pieces = [piece for op in program.ops for piece in cost.pieces(op.work)]
        least = sum(piece.alone_us for piece in pieces)
        most = sum(piece.alone_us * piece.slowdown for piece in pieces)
        assert least * (1 - 1e-6) <= took <= most * (1 + 1e-6) + max((p.alone_us for p in pieces), default=0.0)


@settings(deadline=None, max_examples=30)
@given(scenarios(), FITTED)
def test_without_transfers_interference_changes_nothing(scenario: Scenario, profile: str) -> None:
    calm = replace(REALISTIC, hbm_traffic=False, power=False)
    one = scenario.with_strategy("replicated")
    assert _end_us(one, profile, REALISTIC) == pytest.approx(_end_us(one, profile, calm), rel=1e-9)


@settings(deadline=None, max_examples=20)
@given(scenarios(), FITTED)
def test_the_same_scenario_gives_the_same_spans(scenario: Scenario, profile: str) -> None:
    again = Scenario.create(scenario.to_dict())
    one, two = (run_sim(s, hardware=load_hardware(profile), physics=REALISTIC) for s in (scenario, again))
    assert one.spans == two.spans


def test_each_switch_costs_time_where_its_effect_is() -> None:
    scenario = Scenario.create(
        model={"preset": "qwen3-30b-a3b", "layers": 6},
        group={"ranks": 4},
        workload={"tokens_per_rank": 16384, "cv": 0.0, "isl_tokens": 4096},
        strategy={"slice_bytes": "256KiB", "peer_order": "interleaved"},
    )
    hardware = load_hardware("h100")

    def figures(strategy: str, **on: bool) -> tuple[float, float]:
        physics = Physics(**on)
        found = outcome(scenario.with_strategy(strategy), hardware, physics)  # type: ignore[arg-type]
        return found.metrics.step_ms, found.pull_ms

    step, pull = figures("dwdp")
    for switch in ("efficiency", "activations", "hbm_traffic", "power"):
        on = {switch: True} | ({"activations": True} if switch == "hbm_traffic" else {})
        base = figures("dwdp", activations=True)[0] if switch == "hbm_traffic" else step
        assert figures("dwdp", **on)[0] > base
    assert figures("dwdp", latencies=True)[1] > 1.5 * pull  # 1.2 us a copy of 0.6 us
    assert figures("dep", latencies=True)[0] - figures("dep")[0] == pytest.approx(6 * 2 * 51e-3, rel=1e-6)


def test_gemms_of_few_rows_per_expert_are_less_efficient() -> None:
    hardware = load_hardware("h100")
    scenario = Scenario.create(model="qwen3-30b-a3b", workload={"cv": 0.0})

    def per_token_ms(tokens: int) -> float:
        one = scenario.replace(**{"workload.tokens_per_rank": tokens}).with_strategy("replicated")
        return outcome(one, hardware, Physics(efficiency=True)).unit_ms["grouped_gemm"] / tokens

    assert all(few > many for few, many in itertools.pairwise(per_token_ms(1 << n) for n in range(9, 16)))
    assert per_token_ms(1 << 20) == pytest.approx(2 * 8 * 48 * 3 * 2048 * 768 / (0.792 * 989e9), rel=0.01)


@pytest.mark.parametrize("physics", [Physics(efficiency=True), Physics(power=True), Physics(latencies=True)])
def test_a_profile_of_peaks_alone_has_no_realistic_physics(physics: Physics) -> None:
    with pytest.raises(ScenarioError, match=r"hardware = 'laptop'"):
        run_sim(Scenario.create(), hardware=load_hardware("laptop"), physics=physics)


@given(st.sets(st.sampled_from(SWITCHES)))
def test_physics_are_read_as_they_are_written(on: set[str]) -> None:
    physics = Physics(**{switch: switch in on for switch in SWITCHES})
    assert physics_named(str(physics)) == physics


def test_physics_by_name() -> None:
    assert physics_named("bound") is not physics_named("realistic")
    assert (physics_named("bound"), physics_named("realistic")) == (BOUND, REALISTIC)
    assert physics_named("realistic, power=off , latencies=off") == replace(REALISTIC, power=False, latencies=False)
    assert physics_named("bound,efficiency=on") == Physics(efficiency=True)
    assert (str(BOUND), str(replace(REALISTIC, power=False))) == ("bound", "realistic,power=off")


@pytest.mark.parametrize("text", ["", "real", "power=off", "bound,power", "bound,power=1", "bound,powr=on", "bound,"])
def test_what_names_no_physics_is_refused(text: str) -> None:
    with pytest.raises(ScenarioError, match=r"physics = .*bound or realistic.*efficiency"):
        physics_named(text)


class _Watching(_Machine):
    """The slow obvious way: looks every so often whether a rank is disturbed more or less than before."""

    tick_us = 5.0

    def run(self) -> None:
        for place, rank in enumerate(self.ranks):
            for index in rank.prepare():
                self.start(place, index, 0.0)
        now, seen = 0.0, [0.0] * len(self.ranks)
        while self.heap or not math.isinf(now):
            until = min(self.heap[0][0] if self.heap else math.inf, now + self.tick_us)
            finished = self.links.run(until)
            if finished is not None:
                now = finished.end_us
                self.end_pull(finished.rank, now)
            elif self.heap and self.heap[0][0] <= until:
                now, _, place, index, version = heapq.heappop(self.heap)
                if index != _COMPUTE_PIECE:
                    self.end(place, index, now)
                elif version == self.compute[place].version:
                    self.end_piece(place, now)
            elif not self.heap:
                return
            else:
                now = until
            for place in range(len(self.ranks)):
                disturbance = self.disturbed(place, now)[1]
                if disturbance != seen[place]:
                    seen[place] = disturbance
                    self.reconsider(place, now)


@pytest.mark.parametrize(("order", "slices"), [("rotated", None), ("interleaved", "1MiB")])
def test_foreseeing_ends_gives_what_watching_all_the_time_gives(order: str, slices: str | None) -> None:
    scenario = Scenario.create(
        model={"preset": "deepseek-r1-nvfp4", "layers": 12},
        group={"ranks": 3},
        workload={"tokens_per_rank": 30000, "cv": 0.05, "isl_tokens": 8000},
        strategy={"peer_order": order, "slice_bytes": slices},
    )
    cost = CostModel.of(load_hardware("gb200"), None, REALISTIC)
    fast, slow = _Machine(build(scenario), cost), _Watching(build(scenario), cost)
    fast.run()
    slow.run()
    for rank in range(3):
        ends = [max(s.end_us for s in machine.spans if s.rank == rank) for machine in (fast, slow)]
        assert ends[0] == pytest.approx(ends[1], rel=0.005)
        for unit, took in slow.unit_times(rank).items():
            assert fast.unit_times(rank)[unit] == pytest.approx(took, rel=0.02)


def test_an_all_gather_of_weights_disturbs_compute_as_a_pull_does() -> None:
    scenario = Scenario.create(
        model={"preset": "qwen3-30b-a3b", "layers": 12},
        workload={"tokens_per_rank": 32768, "cv": 0.0, "isl_tokens": 4096},
    )
    hardware = load_hardware("h100")
    calm = replace(REALISTIC, hbm_traffic=False, power=False)
    gathered = scenario.with_strategy("weight_gather")
    assert metrics(run_sim(gathered, hardware=hardware, physics=REALISTIC)).step_ms > 1.02 * (
        metrics(run_sim(gathered, hardware=hardware, physics=calm)).step_ms
    )


@pytest.mark.parametrize("physics", [BOUND, REALISTIC])
@pytest.mark.parametrize("strategy", ["replicated", "dep", "dwdp"])
def test_no_span_computes_or_reads_faster_than_the_data_sheet(strategy: StrategyName, physics: Physics) -> None:
    """What a span says beside its time is what takes that time: its rates are possible ones."""
    scenario = Scenario.create(
        model={"preset": "qwen3-30b-a3b", "layers": 2}, group={"ranks": 2}, strategy={"name": strategy}
    )
    profile = load_hardware("h100")
    spans = [span for span in run_sim(scenario, hardware=profile, physics=physics).spans if span.lane == "compute"]
    assert spans
    for span in spans:
        assert span.nbytes <= profile.hbm_gbps.value * 1e3 * span.duration_us * (1 + 1e-6)
        assert span.flops <= profile.tflops["bf16"].value * 1e6 * span.duration_us * (1 + 1e-6)
