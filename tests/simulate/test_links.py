"""Sharing of links: fair, complete, and never beyond what a link carries."""

from __future__ import annotations

import itertools
import math

import numpy as np
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
from dwdp_lab.simulate.links import Links
from dwdp_lab.simulate.one_source_links import OneSourceLinks
from dwdp_lab.simulate.shared_links import SharedLinks, fill
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


@given(stages(), st.floats(1, 1e3), st.lists(st.floats(1, 1e3), min_size=6, max_size=6))
def test_rates_are_max_min_fair(running: dict[int, Stage], egress: float, most: list[float]) -> None:
    shares = np.zeros((6, 6))
    for rank, stage in running.items():
        for source, nbytes in stage.sources:
            shares[rank, source] = nbytes / stage.nbytes
    limits = np.array([most[rank] if rank in running else 0.0 for rank in range(6)])
    rates = fill(shares, limits, egress)
    load = rates @ shares
    assert all(rates[rank] == 0 for rank in range(6) if rank not in running)
    assert (rates <= limits * (1 + 1e-9)).all()
    assert (load <= egress * (1 + 1e-9)).all()
    for rank, stage in running.items():  # each is held back by a full link on which nobody is faster
        bottlenecks = [
            source
            for source, _ in stage.sources
            if load[source] >= egress * (1 - 1e-9) and (rates[shares[:, source] > 0] <= rates[rank] * (1 + 1e-9)).all()
        ]
        assert bottlenecks or rates[rank] >= limits[rank] * (1 - 1e-9)


@pytest.mark.parametrize("kind", [OneSourceLinks, SharedLinks])
def test_readers_of_one_source_get_equal_parts_and_the_rest_when_one_leaves(kind: type) -> None:
    links: Links = kind(3, egress=100.0, ingress=100.0)
    links.start(1, [Stage(((0, 1000.0),))], 0.0)
    assert links.run(5.0) is None
    links.start(2, [Stage(((0, 1000.0),))], 5.0)  # 500 bytes left on rank 1, 50 bytes/us each
    assert links.run(14.9) is None
    assert links.run(99.0) == (15.0, 1)
    assert [links.disturbed(rank, 15.0)[1] for rank in range(3)] == [1.0, 0.0, 1.0]  # 0 is read, 2 reads
    assert links.run(99.0) == (20.0, 2)  # 500 bytes alone
    assert links.run(99.0) is None
    assert [links.disturbed(rank, 30.0)[0] for rank in range(3)] == [20.0, 15.0, 15.0]


@pytest.mark.parametrize("kind", [OneSourceLinks, SharedLinks])
def test_a_pair_carries_no_more_than_what_joins_it(kind: type) -> None:
    links: Links = kind(3, egress=100.0, ingress=100.0, pair=25.0)
    links.start(0, [Stage(((1, 1000.0),)), Stage(((2, 500.0),))], 0.0)
    assert links.run(math.inf) == (60.0, 0)


def test_several_sources_use_several_pairs_at_once() -> None:
    links = SharedLinks(3, egress=100.0, ingress=100.0, pair=25.0)
    links.start(0, [Stage(((1, 500.0), (2, 500.0)))], 0.0)
    assert links.disturbed(1, 0.0)[1] == 0.25  # what it sends
    assert links.run(math.inf) == (20.0, 0)


def _ends(links: Links, reads: list[tuple[float, int, float]]) -> list[float]:
    """When each read (start, source, bytes) ends; the i-th is rank 4 + i's only one."""
    ends = [0.0] * len(reads)

    def run(until: float) -> None:
        while (finished := links.run(until)) is not None:
            ends[finished.rank - 4] = finished.end_us

    for index, (start, source, nbytes) in sorted(enumerate(reads), key=lambda one: one[1][0]):
        run(start)
        links.start(4 + index, [Stage(((source, nbytes),))], start)
    run(math.inf)
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
    one = _ends(OneSourceLinks(12, egress, ingress), reads)
    assert one == pytest.approx(_ends(SharedLinks(12, egress, ingress), reads), rel=1e-9)


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
