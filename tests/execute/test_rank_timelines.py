"""What rank processes report about time."""

from __future__ import annotations

import pytest
from rank_scenarios import scenario, several_steps

from dwdp_lab.execute.ranks import Ranks
from dwdp_lab.execute.run_result import crowded
from dwdp_lab.program.build import build
from dwdp_lab.program.operation import COLLECTIVES
from dwdp_lab.program.pull_plan import pull_of

pytestmark = pytest.mark.ranks


@pytest.mark.parametrize("strategy", ["replicated", "dep", "weight_gather", "dwdp"])
def test_every_operation_has_its_span(two_ranks: Ranks, strategy: str) -> None:
    work = several_steps(2, **{"strategy.name": strategy, "strategy.weight_view": "merged"})
    timeline = two_ranks.run(work).timeline
    expected = sorted(
        (program.rank, op.lane, op.kind, op.step, op.layer) for program in build(work) for op in program.ops
    )
    found = sorted(tuple(span[:5]) for span in timeline.spans if span.kind != "wait_peers")
    assert found == expected
    assert all(0 <= span.start_us <= span.end_us for span in timeline.spans)
    assert (timeline.machine, timeline.provenance, timeline.strategy) == ("cpu", "measured", strategy)
    assert timeline.tokens == tuple(work.batches.tokens(rank) for rank in range(2))
    assert timeline.steps == 3
    assert timeline.environment.keys() >= {"cpu_count", "python", "torch", "date"}


def test_a_collective_begins_for_all_when_the_last_has_come(two_ranks: Ranks) -> None:
    timeline = two_ranks.run(several_steps(2, **{"strategy.name": "dep"})).timeline
    starts: dict[tuple[str, int, int], set[float]] = {}
    for span in timeline.spans:
        if span.kind in COLLECTIVES and span.duration_us:
            starts.setdefault((span.kind, span.step, span.layer), set()).add(span.start_us)
    assert starts
    assert all(len(moments) == 1 for moments in starts.values())


def test_dwdp_never_waits_for_peers(two_ranks: Ranks) -> None:
    assert not [s for s in two_ranks.run(several_steps(2)).timeline.spans if s.kind == "wait_peers"]


def test_paced_copies_take_as_long_as_the_link_would_and_say_so(two_ranks: Ranks) -> None:
    work = scenario(2, [[4], [4]], link_gbps=0.01)
    timeline = two_ranks.run(work).timeline
    assert timeline.notes[-1] == "copies paced to 0.01 GB/s"
    pulls = [span for span in timeline.spans if span.kind == "pull"]
    nbytes = pull_of(work, 0).nbytes
    assert nbytes > 0
    for pull in pulls:
        assert pull.nbytes == nbytes
        assert pull.duration_us + 1 >= nbytes / (0.01 * 1e3)


def test_notes_name_what_is_not_paced(two_ranks: Ranks) -> None:
    work = scenario(2, [[4], [4]], link_gbps=5.0)
    alone = two_ranks.run(work.with_strategy("replicated"))
    assert not [note for note in alone.timeline.notes if "paced" in note]
    gathered = two_ranks.run(work.with_strategy("weight_gather"))
    assert gathered.timeline.notes[-1] == "collectives not paced"


def test_more_lanes_than_cores_are_noted() -> None:
    work = scenario(2, [[4], [4]])
    assert crowded(build(work), 4) == ()
    assert crowded(build(work), 3) == ("4 lanes share 3 CPU cores",)
    assert crowded(build(work.with_strategy("replicated")), 2) == ()


def test_progress_goes_from_nothing_to_all(two_ranks: Ranks) -> None:
    heard: list[tuple[float, str]] = []
    two_ranks.run(several_steps(2), progress=lambda share, doing: heard.append((share, doing)))
    shares = [share for share, _ in heard]
    assert shares == sorted(shares)
    assert shares[0] == 0.0
    assert shares[-1] == 1.0
    assert heard[0][1] == "dwdp: preparing"
    assert heard[-1][1] == "dwdp: step 3 done"
