"""Links against the slow obvious way: rates found anew at every event, and no resource beyond what it can carry."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from any_scenario import scenarios
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dwdp_lab.program.build import build
from dwdp_lab.program.operation import Program, Stage
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate import machine
from dwdp_lab.simulate.cost import CostModel
from dwdp_lab.simulate.hardware import Hardware, load_hardware
from dwdp_lab.simulate.links import Links
from dwdp_lab.simulate.machine import run_programs
from dwdp_lab.simulate.physics import Physics
from dwdp_lab.simulate.reached import Number

SOURCE = "made up for a test"


@dataclass
class _Reader:
    """A rank's pull in the slow way: its stages that are left, and the bytes left of the first."""

    stages: list[Stage]
    left: float


@dataclass(frozen=True)
class _Limits:
    """What a rank can send, receive, move from one peer, and move to and from other nodes; bytes per microsecond."""

    egress: float
    ingress: float
    pair: float
    nodes: tuple[int, float] | None

    def uses(self, reader: int, stage: Stage) -> dict[tuple[str, int, int], float]:
        """Of each resource, by how much one byte of the stage loads it."""
        loads: dict[tuple[str, int, int], float] = {("in", reader, 0): 1.0}
        for source, nbytes in stage.sources:
            share = nbytes / stage.nbytes
            far = self.nodes is not None and reader // self.nodes[0] != source // self.nodes[0]
            loads["out", source, 0] = share
            if far:
                loads["in far", reader, 0] = loads.get(("in far", reader, 0), 0.0) + share
                loads["out far", source, 0] = share
            else:
                loads["pair", reader, source] = share
        return loads

    def capacity(self, resource: str) -> float:
        between = math.inf if self.nodes is None else self.nodes[1]
        return {"in": self.ingress, "out": self.egress, "pair": self.pair, "in far": between, "out far": between}[
            resource
        ]


def _rates(readers: dict[int, _Reader], limits: _Limits) -> dict[int, float]:
    """Max-min fair: all rise together, and who meets a full resource stays there."""
    uses = {rank: limits.uses(rank, reader.stages[0]) for rank, reader in readers.items()}
    rates, rising = dict.fromkeys(readers, 0.0), set(readers)
    resources = {resource for loads in uses.values() for resource in loads}
    while rising:
        steps = {}
        for resource in resources:
            slope = sum(uses[rank].get(resource, 0.0) for rank in rising)
            if slope > 0.0:
                used = sum(uses[rank].get(resource, 0.0) * rates[rank] for rank in readers)
                steps[resource] = max(0.0, limits.capacity(resource[0]) - used) / slope
        step = min(steps.values())
        for rank in rising:
            rates[rank] += step
        full = {resource for resource, one in steps.items() if one <= step * (1 + 1e-12)}
        rising = {rank for rank in rising if not full & set(uses[rank])}
    for resource in resources:  # nothing beyond its capacity
        used = sum(uses[rank].get(resource, 0.0) * rates[rank] for rank in readers)
        assert used <= limits.capacity(resource[0]) * (1 + 1e-9)
    return rates


def _slowly(pulls: dict[int, Sequence[Stage]], starts: dict[int, float], limits: _Limits) -> dict[int, float]:
    """When each rank's pull ends."""
    waiting = sorted((starts[rank], rank) for rank in pulls)
    readers: dict[int, _Reader] = {}
    now, ends = 0.0, {}
    while waiting or readers:
        rates = _rates(readers, limits)
        next_end = min((now + reader.left / rates[rank] for rank, reader in readers.items()), default=math.inf)
        until = min(next_end, waiting[0][0] if waiting else math.inf)
        for rank, reader in readers.items():
            reader.left -= rates[rank] * (until - now)
        now = until
        done = [
            rank
            for rank, reader in readers.items()
            # or so little that the clock does not move any more
            if reader.left <= 1e-9 * reader.stages[0].nbytes or now + reader.left / rates[rank] <= now
        ]
        for rank in done:
            reader = readers[rank]
            del reader.stages[0]
            if reader.stages:
                reader.left = reader.stages[0].nbytes
            else:
                del readers[rank]
                ends[rank] = now
        while waiting and waiting[0][0] <= now:
            rank = waiting.pop(0)[1]
            readers[rank] = _Reader(list(pulls[rank]), pulls[rank][0].nbytes)
    return ends


def _drive(links: Links, pulls: dict[int, Sequence[Stage]], starts: dict[int, float]) -> dict[int, float]:
    ends: dict[int, float] = {}

    def run(until: float) -> None:
        while (finished := links.run(until)) is not None:
            ends[finished.rank] = finished.end_us

    for start, rank in sorted((starts[rank], rank) for rank in pulls):
        run(start)
        links.start(rank, pulls[rank], start)
    run(math.inf)
    return ends


def _number(value: float) -> Number:
    return Number(value=value, source=SOURCE)


@st.composite
def machines(draw: st.DrawFn) -> Hardware:
    """Switched or joined one to one, on one node or several, with sources that give more than one reader takes."""
    profile = load_hardware("gb200")
    assert profile.reached is not None
    nodes = draw(st.none() | st.tuples(st.integers(1, 4), st.floats(10, 2000)))
    return profile.model_copy(
        update={
            "pair_gbps": draw(st.none() | st.floats(50, 900).map(_number)),
            "gpus_per_node": None if nodes is None else _number(nodes[0]),
            "inter_node_gbps": None if nodes is None else _number(nodes[1]),
            "reached": profile.reached.model_copy(
                update={"egress": draw(st.none() | st.floats(0.5, 1.0).map(_number))}
            ),
        }
    )


def _pulls(programs: Sequence[Program]) -> dict[int, Sequence[Stage]]:
    """Each rank's first pull, of those that pull anything."""
    first = {p.rank: [op.pull for op in p.ops if op.pull is not None and op.pull.stages][:1] for p in programs}
    return {rank: pulls[0].stages for rank, pulls in first.items() if pulls}


@settings(deadline=None, max_examples=150)
@given(scenarios(names=("dwdp",)), machines(), st.lists(st.floats(0, 1.5), min_size=6, max_size=6))
def test_all_orders_slices_and_machines_share_links_as_the_slow_way_does(
    scenario: Scenario, hardware: Hardware, phases: list[float]
) -> None:
    programs = build(scenario)
    cost = CostModel.of(hardware, None, Physics(efficiency=True))
    pulls = _pulls(programs)
    assume(pulls)
    longest = max(sum(stage.nbytes for stage in stages) for stages in pulls.values()) / cost.link_bytes_per_us
    starts = {rank: phases[rank] * longest for rank in pulls}
    nodes = cost.nodes(scenario.ranks)
    limits = _Limits(
        cost.egress_bytes_per_us,
        cost.link_bytes_per_us,
        cost.pair_bytes_per_us or math.inf,
        None if nodes is None else (nodes.size, nodes.rate),
    )
    found = _drive(machine._links(programs, cost), pulls, starts)
    assert found == pytest.approx(_slowly(pulls, starts, limits), rel=1e-6)


@settings(deadline=None, max_examples=80)
@given(scenarios(names=("dwdp",)), st.floats(0.1, 1000), st.floats(1.0, 10.0), st.booleans())
def test_read_in_turn_by_slices_a_faster_link_never_slows_any_number_of_ranks(
    scenario: Scenario, link_gbps: float, faster: float, efficient: bool
) -> None:
    """Whole shares may: ranks that a slow link kept apart can meet at a source. Slices read all sources alike."""
    ranks = scenario.ranks
    even = scenario.replace(
        **{
            "model.experts": 2 * ranks,
            "model.top_k": 1,
            "group.local_experts": None,
            "strategy.peer_order": "interleaved" if efficient else "permutation",
            "strategy.slice_bytes": 1024,
            "strategy.pull": "all",
        }
    )
    physics = Physics(efficiency=efficient, activations=efficient, latencies=efficient)
    programs, hardware = build(even), load_hardware("h100")

    def last_end(gbps: float) -> float:
        return max((s.end_us for s in run_programs(programs, CostModel.of(hardware, gbps, physics))), default=0.0)

    assert last_end(link_gbps * faster) <= last_end(link_gbps) * (1 + 1e-9)


@settings(deadline=None, max_examples=80)
@given(scenarios(names=("dwdp",)), st.floats(0.1, 1000), st.floats(0.001, 1000))
def test_however_ranks_meet_a_pull_takes_between_its_bytes_over_the_link_and_as_often_as_there_are_readers(
    scenario: Scenario, link_gbps: float, more: float
) -> None:
    """More bandwidth may change who meets whom, but never takes a pull out of these bounds."""
    cost = CostModel.of(load_hardware("h100"), link_gbps + more)
    for span in run_programs(build(scenario), cost):
        if span.kind == "pull":
            alone = span.nbytes / cost.link_bytes_per_us
            assert alone * (1 - 1e-9) - 1e-9 <= span.duration_us <= alone * (scenario.ranks - 1) * (1 + 1e-9) + 1e-9
