"""Sharing of links: fair, complete, and never beyond what a link carries."""

from __future__ import annotations

import heapq
import itertools

import pytest
from any_scenario import scenarios
from hypothesis import given, settings
from hypothesis import strategies as st

from dwdp_lab.program.build import build
from dwdp_lab.program.operation import Stage
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate import machine
from dwdp_lab.simulate.cost import CostModel
from dwdp_lab.simulate.hardware import load_hardware
from dwdp_lab.simulate.links import Links, OneSourceLinks, SharedLinks, fair_rates
from dwdp_lab.timeline.span import Span


@st.composite
def stages(draw: st.DrawFn) -> dict[int, Stage]:
    ranks = draw(st.integers(2, 6))
    running = {}
    for rank in range(ranks):
        peers = [peer for peer in range(ranks) if peer != rank]
        sources = draw(st.lists(st.sampled_from(peers), unique=True, max_size=len(peers)))
        if sources:
            running[rank] = Stage(tuple((peer, draw(st.floats(1, 1e6))) for peer in sources))
    return running


@given(stages(), st.floats(1, 1e3), st.floats(1, 1e3))
def test_rates_are_max_min_fair(running: dict[int, Stage], egress: float, ingress: float) -> None:
    rates = fair_rates(running, egress, ingress)
    assert set(rates) == set(running)
    load: dict[int, float] = {}
    for rank, stage in running.items():
        assert rates[rank] <= ingress * (1 + 1e-9)
        for source, nbytes in stage.sources:
            load[source] = load.get(source, 0.0) + rates[rank] * nbytes / stage.nbytes
    assert all(used <= egress * (1 + 1e-9) for used in load.values())
    for rank, stage in running.items():  # each is held back by a full link on which nobody is faster
        bottlenecks = [
            source
            for source, _ in stage.sources
            if load[source] >= egress * (1 - 1e-9)
            and all(
                rates[other] <= rates[rank] * (1 + 1e-9)
                for other, theirs in running.items()
                if source in dict(theirs.sources)
            )
        ]
        assert bottlenecks or rates[rank] >= ingress * (1 - 1e-9)


def test_readers_of_one_source_get_equal_parts_and_the_rest_when_one_leaves() -> None:
    links = OneSourceLinks(egress=100.0, ingress=100.0)
    (first,) = links.start(1, Stage(((0, 1000.0),)), 0.0)
    assert first[:2] == (1, 10.0)
    (shared,) = links.start(2, Stage(((0, 1000.0),)), 5.0)  # 500 bytes left on rank 1, 50 bytes/us each
    assert shared[:2] == (1, 15.0)
    assert links.current(1) == shared.version != first.version
    (alone,) = links.end(1, 15.0)  # rank 2 has had 500 bytes
    assert alone == (2, 20.0, links.current(2))
    assert links.end(2, 20.0) == []


def _ends(links: Links, reads: list[tuple[float, int, float]]) -> list[float]:
    """When each read (start, source, bytes) ends; the i-th is rank 10 + i's only one."""
    heap = [(start, 0, 10 + i, -1) for i, (start, _, _) in enumerate(reads)]
    heapq.heapify(heap)
    ends = [0.0] * len(reads)
    while heap:
        now, _, rank, version = heapq.heappop(heap)
        if version < 0:
            _, source, nbytes = reads[rank - 10]
            changes = links.start(rank, Stage(((source, nbytes),)), now)
        elif version == links.current(rank):
            ends[rank - 10] = now
            changes = links.end(rank, now)
        else:
            continue
        for change in changes:
            heapq.heappush(heap, (change.end_us, 1, change.rank, change.version))
    return ends


@given(
    st.lists(st.tuples(st.floats(0, 100), st.integers(0, 3), st.floats(1, 1e4)), min_size=1, max_size=8),
    st.floats(1, 1e3),
    st.floats(1, 1e3),
)
def test_both_kinds_of_links_agree_where_both_apply(
    reads: list[tuple[float, int, float]], egress: float, ingress: float
) -> None:
    """Single reads only: over many layers contention amplifies differences of a rounding error (as it does in life)."""
    one = _ends(OneSourceLinks(egress, ingress), reads)
    assert one == pytest.approx(_ends(SharedLinks(egress, ingress), reads), rel=1e-9)


@settings(deadline=None, max_examples=80)
@given(scenarios(), st.floats(0.01, 1000))
def test_work_is_conserved_lanes_run_one_operation_and_links_carry_no_more_than_they_can(
    scenario: Scenario, link_gbps: float
) -> None:
    programs = build(scenario)
    cost = CostModel.of(load_hardware(scenario.hardware), link_gbps)
    spans = machine.run_programs(programs, cost)
    ran = sorted((s.rank, s.step, s.layer, s.kind) for s in spans if s.kind != "wait_peers")
    assert ran == sorted((p.rank, op.step, op.layer, op.kind) for p in programs for op in p.ops)
    lanes: dict[tuple[int, str], list[Span]] = {}
    for span in spans:
        lanes.setdefault((span.rank, span.lane), []).append(span)
    for on_lane in lanes.values():
        on_lane.sort(key=lambda span: (span.start_us, span.end_us))
        for before, after in itertools.pairwise(on_lane):
            assert before.end_us <= after.start_us * (1 + 1e-12) + 1e-9
    pulled = [span for span in spans if span.kind == "pull"]
    for span in pulled:  # a reader cannot take in more than its link carries
        assert span.duration_us >= span.nbytes / cost.link_bytes_per_us * (1 - 1e-9) - 1e-9
    if pulled:
        busy = max(s.end_us for s in pulled) - min(s.start_us for s in pulled)
        for source in range(scenario.ranks):
            read = sum(
                nbytes
                for program in programs
                for op in program.ops
                if op.pull is not None
                for stage in op.pull.stages
                for peer, nbytes in stage.sources
                if peer == source
            )
            assert busy >= read / cost.link_bytes_per_us * (1 - 1e-9) - 1e-9


@settings(deadline=None, max_examples=40)
@given(scenarios(names=("dep", "weight_gather", "replicated")), st.floats(0.1, 100), st.floats(1.0, 10.0))
def test_a_faster_link_never_slows_a_step(scenario: Scenario, link_gbps: float, faster: float) -> None:
    programs = build(scenario)
    hardware = load_hardware(scenario.hardware)

    def last_end(gbps: float) -> float:
        spans = machine.run_programs(programs, CostModel.of(hardware, gbps))
        return max((span.end_us for span in spans), default=0.0)

    assert last_end(link_gbps * faster) <= last_end(link_gbps) * (1 + 1e-9)


def test_programs_that_wait_for_each_other_are_stuck_and_said_so() -> None:
    scenario = Scenario.create(strategy={"name": "dep"})
    one, two = build(scenario)
    without = type(two)(1, tuple(op for op in two.ops if op.kind not in ("reduce_tokens", "combine") or op.layer))
    broken = type(two)(1, tuple(op._replace(waits=()) if op.layer == 1 else op for op in without.ops))
    with pytest.raises(machine.StuckError, match="never start"):
        machine.run_programs([one, broken], CostModel.of(load_hardware("laptop")))
