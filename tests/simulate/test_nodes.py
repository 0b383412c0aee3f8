"""Groups that span several nodes: what joins the nodes is shared fairly, and no limit when there is enough of it."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
from any_scenario import scenarios
from hypothesis import given, settings
from hypothesis import strategies as st

from dwdp_lab.program.build import build
from dwdp_lab.program.operation import Stage
from dwdp_lab.program.pull_plan import pull_of
from dwdp_lab.program.work import WorkModel
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.cost import CostModel
from dwdp_lab.simulate.hardware import Hardware, load_hardware
from dwdp_lab.simulate.links import Links, Nodes
from dwdp_lab.simulate.machine import run_programs
from dwdp_lab.simulate.one_source_links import OneSourceLinks
from dwdp_lab.simulate.one_source_nodes import OneSourceNodes
from dwdp_lab.simulate.over_ranks import over_ranks
from dwdp_lab.simulate.physics import BOUND, REALISTIC
from dwdp_lab.simulate.reached import Number
from dwdp_lab.simulate.shared_links import SharedLinks


def on_nodes(of: int, gbps: float, name: str = "h100") -> Hardware:
    """A profile with nodes of so many GPUs, joined by so much per GPU."""
    size, between = Number(value=of, source="test"), Number(value=gbps, source="test")
    return load_hardware(name).model_copy(update={"gpus_per_node": size, "inter_node_gbps": between})


def _end_us(scenario: Scenario, hardware: Hardware) -> float:
    return max((s.end_us for s in run_programs(build(scenario), CostModel.of(hardware))), default=0.0)


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


READS = st.lists(st.tuples(st.floats(0, 100), st.integers(0, 3), st.floats(1, 1e4)), min_size=1, max_size=8)


@given(READS, st.floats(1, 1e3), st.floats(1, 1e3), st.floats(0.1, 1e3), st.integers(1, 11), st.none() | st.just(50.0))
def test_both_kinds_of_links_agree_on_nodes(
    reads: list[tuple[float, int, float]],
    egress: float,
    ingress: float,
    between: float,
    size: int,
    pair: float | None,
) -> None:
    nodes = Nodes(size, min(between, egress, ingress))
    one = _ends(OneSourceNodes(12, egress, ingress, pair, nodes), reads)
    assert one == pytest.approx(_ends(SharedLinks(12, egress, ingress, pair, nodes), reads), rel=1e-9)


@pytest.mark.parametrize(("kind", "one_node"), [(OneSourceNodes, OneSourceLinks), (SharedLinks, SharedLinks)])
@given(reads=READS, egress=st.floats(1, 1e3), size=st.integers(1, 11))
def test_nodes_joined_by_a_whole_link_are_one(
    kind: type, one_node: type, reads: list[tuple[float, int, float]], egress: float, size: int
) -> None:
    joined = _ends(kind(12, egress, egress, None, Nodes(size, egress)), reads)
    assert joined == pytest.approx(_ends(one_node(12, egress, egress), reads), rel=1e-9)


@pytest.mark.parametrize("kind", [OneSourceNodes, SharedLinks])
def test_far_readers_share_what_joins_the_nodes_and_near_ones_the_rest(kind: type) -> None:
    """Rank 0 gives 20 to the two on the other node together, and 80 to its neighbour."""
    links: Links = kind(4, 100.0, 100.0, None, Nodes(2, 20.0))
    for rank, nbytes in ((1, 800.0), (2, 100.0), (3, 200.0)):
        links.start(rank, [Stage(((0, nbytes),))], 0.0)
    assert links.run(math.inf) == (10.0, 1)
    assert links.run(math.inf) == (10.0, 2)
    assert links.run(math.inf) == (15.0, 3)  # 100 bytes left, all of the 20 for them


@pytest.mark.parametrize("kind", [OneSourceNodes, SharedLinks])
def test_what_a_near_reader_cannot_take_goes_to_the_far_one(kind: type) -> None:
    """Two ranks of a node are joined by 20 of 100, so that rank 0 has 80 left for the other node, which takes 90."""
    links: Links = kind(4, 100.0, 100.0, 20.0, Nodes(2, 90.0))
    for rank, nbytes in ((1, 200.0), (2, 160.0)):
        links.start(rank, [Stage(((0, nbytes),))], 0.0)
    assert links.run(math.inf) == (2.0, 2)
    assert links.run(math.inf) == (10.0, 1)


@settings(deadline=None, max_examples=60)
@given(scenarios(), st.integers(1, 6), st.floats(0.1, 449.0))
def test_what_joins_nodes_never_shortens_a_collective_step_and_vanishes_when_there_is_enough(
    scenario: Scenario, size: int, gbps: float
) -> None:
    scenario = scenario.replace(hardware="h100")
    plenty = [_end_us(scenario, on_nodes(size, rate)) for rate in (450.0, 1e9)]
    without = _end_us(scenario, on_nodes(256, 1.0))
    assert plenty == [without, without]
    if scenario.strategy.name != "dwdp":  # where ranks meet at a source depends on when they come
        assert _end_us(scenario, on_nodes(size, gbps)) >= without * (1 - 1e-9)


MODEL: dict[str, Any] = {
    "name": "any",
    "layers": 2,
    "hidden": 256,
    "attention": {"kind": "gqa", "heads": 4, "kv_heads": 2, "head_dim": 64},
    "experts": 8,
    "top_k": 2,
    "expert_intermediate": 128,
}


@pytest.mark.parametrize(
    ("ranks", "of", "order", "slices"),
    [(2, 1, "rotated", None), (4, 2, "interleaved", "4KiB"), (2, 1, "ascending", None)],
)
def test_a_pull_from_another_node_takes_its_bytes_over_what_joins_them(
    ranks: int, of: int, order: str, slices: str | None
) -> None:
    """All peers read at once: the far ones, of which there are as many as a node has, hold the near ones up."""
    scenario = Scenario.create(
        model=MODEL,
        group={"ranks": ranks},
        workload={"cv": 0.0, "tokens_per_rank": 1},
        strategy={"peer_order": order, "slice_bytes": slices, "overlap": False},
    )
    spans = run_programs(build(scenario), CostModel.of(on_nodes(of, 10.0)))
    expected = of * pull_of(scenario, 0).nbytes / (ranks - 1) / 10e3
    pulls = [span for span in spans if span.kind == "pull"]
    assert pulls
    for span in pulls:
        assert span.duration_us == pytest.approx(expected, rel=1e-6)


def test_an_all_to_all_takes_what_leaves_the_node_over_what_joins_them() -> None:
    strategy = {"name": "dep", "dep_form": "all_to_all"}
    scenario = Scenario.create(model=MODEL, group={"ranks": 4}, workload={"cv": 0.0}, strategy=strategy)
    amounts = WorkModel(scenario)
    sent = [amounts.dispatch(rank, 0, 0) for rank in range(4)]
    far = sum(sent[0].sent_bytes[2:])
    assert CostModel.of(on_nodes(2, 10.0)).collective_us(sent) == pytest.approx(far / 10e3)
    assert CostModel.of(on_nodes(4, 10.0)).collective_us(sent) == pytest.approx(sum(sent[0].sent_bytes) / 450e3)
    reached = CostModel.of(on_nodes(2, 10.0), None, REALISTIC).collective_us(sent)
    assert reached == pytest.approx(51 + far / (0.557 * 10e3))


@pytest.mark.parametrize("kind", ["gather_tokens", "reduce_tokens", "gather_weights", "all_reduce"])
def test_what_every_rank_gets_or_adds_to_crosses_once_for_all_ranks_of_a_node(kind: str) -> None:
    """Six ranks on nodes of four. The two of the second node need what the four of the first have, half of it each."""
    scenario = Scenario.create(
        model={**MODEL, "experts": 12}, group={"ranks": 6}, workload={"cv": 0.0, "tokens_per_rank": 100}
    )
    amounts = WorkModel(scenario)
    tokens, weights = 100 * 256 * 2, 2 * 3 * 256 * 128 * 2
    sent = {
        "gather_tokens": ([amounts.gather_tokens(rank, 0) for rank in range(6)], 4 * tokens / 2),
        "reduce_tokens": ([amounts.reduce_tokens(rank, 0) for rank in range(6)], 4 * tokens / 2),
        "gather_weights": ([amounts.gather_weights(rank) for rank in range(6)], 4 * weights / 2),
        # each of the six adds up a sixth of the rows, and then all get it
        "all_reduce": ([amounts.all_reduce(rank, 600) for rank in range(6)], 2 * 4 * tokens / 2),
    }
    collectives, far_bytes = sent[kind]
    assert CostModel.of(on_nodes(4, 1.0)).collective_us(collectives) == pytest.approx(far_bytes / 1e3)


def test_a_second_node_costs_dwdp_more_than_a_larger_group_gains() -> None:
    scenario = Scenario.create(
        model={"preset": "qwen3-30b-a3b", "layers": 4}, workload={"cv": 0.0, "tokens_per_rank": 8192}
    )
    sizes = (2, 4, 8, 16)
    rows = over_ranks(scenario, load_hardware("h100"), BOUND, sizes)
    assert [row.nodes for row in rows] == [1, 1, 1, 2]
    for row in rows:
        assert row.dwdp_over_dep * row.dep_tokens_per_s_per_gpu == pytest.approx(row.dwdp_tokens_per_s_per_gpu)
    assert rows[3].dwdp_exposed_copy_ms > 10 * rows[2].dwdp_exposed_copy_ms
    together = over_ranks(scenario, on_nodes(72, 50.0), BOUND, sizes)
    assert together[:3] == rows[:3]
    assert together[3].dwdp_tokens_per_s_per_gpu > 1.5 * rows[3].dwdp_tokens_per_s_per_gpu


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"inter_node_gbps": None}, r"hardware\.inter_node_gbps goes with the other of the two"),
        ({"gpus_per_node": {"value": 2.5, "source": "test"}}, r"hardware\.gpus_per_node = 2\.5: must be a whole"),
    ],
)
def test_half_a_node_is_refused(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    file = tmp_path / "profile.json"
    file.write_text(json.dumps({**load_hardware("h100").model_dump(mode="json"), **changes}))
    with pytest.raises(ScenarioError, match=says):
        load_hardware(str(file))


def test_ranks_fill_one_node_after_another() -> None:
    nodes = Nodes(4, 1.0)
    assert [rank for rank in range(12) if nodes.far(5, rank)] == [0, 1, 2, 3, 8, 9, 10, 11]
    for one, other in itertools.product(range(12), repeat=2):
        assert nodes.far(one, other) == nodes.far(other, one)
