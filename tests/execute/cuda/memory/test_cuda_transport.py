"""Which way of sharing memory a group takes, and how much it hands over at once."""

from __future__ import annotations

import pytest
from host_device import HostIpc
from host_memory import HostMemory
from memory_ranks import MODEL, Rank, on_ranks, perform, run_all_layers, scenario

from dwdp_lab.execute.cuda.memory.choose_transport import NoTransport
from dwdp_lab.program.placement import placement
from dwdp_lab.scenario.errors import ScenarioError


def test_fabric_handles_where_descriptors_fail() -> None:
    def run(rank: Rank) -> None:
        work = scenario(2, **{"strategy.weight_view": "composite"})
        run_all_layers(rank, work)
        assert rank.prepare(work).notes[0] == "peers' weights: driver memory, shared by fabric handles"
        assert "descriptors" not in rank.session.names

    on_ranks(2, run, [HostMemory(offered=("fabric",)) for _ in range(2)])


def test_all_ranks_take_what_works_on_all() -> None:
    """Descriptors fail on one rank, fabric on the other: IPC it is, and the composite view says why it cannot be."""
    memories = [HostMemory(offered=("fabric",)), HostMemory(offered=("descriptor",))]
    ipcs = [HostIpc(), HostIpc()]

    def run(rank: Rank) -> None:
        for view in ("split", "merged"):
            work = scenario(2, **{"strategy.weight_view": view})
            prepared = rank.prepare(work)
            assert prepared.notes == ["peers' weights: CUDA IPC"]
            perform(prepared.copies(1, 1))
        with pytest.raises(ScenarioError, match=r"strategy.weight_view = 'composite'.*CUDA IPC\. Take split or merged"):
            rank.prepare(scenario(2, **{"strategy.weight_view": "composite"}))
        rank.prepare(scenario(2, **{"strategy.name": "replicated"}))
        rank.session.gather("all are done", None)

    on_ranks(2, run, memories, ipcs)
    for ipc in ipcs:
        ipc.memory.assert_nothing_left()


def test_without_any_transport_the_error_says_what_was_tried() -> None:
    memories = [HostMemory(offered=()), HostMemory(offered=())]

    def run(rank: Rank) -> None:
        with pytest.raises(
            NoTransport,
            match=r"rank 0, driver memory, shared by POSIX .*: create .*; rank 1, CUDA IPC: not tried.*--machine cpu",
        ):
            rank.prepare(scenario(2))
        rank.prepare(scenario(2, **{"strategy.name": "replicated"}))  # needs none

    on_ranks(2, run, memories)


def test_many_blocks_travel_in_rounds() -> None:
    """No more descriptors are on their way at once than common limits allow, whatever the group's size."""
    ranks = 8
    model = MODEL | {"layers": 12, "experts": 16, "hidden": 64, "expert_intermediate": 80}
    work = scenario(ranks, **{"model": model, "strategy.weight_view": "composite"})

    def run(rank: Rank) -> tuple[int, int]:
        rank.prepare(work)
        shard = rank.kept.shard
        assert shard is not None
        peers = {peer for peer, _ in placement(work).pulled(rank.session.rank)}
        assert set(rank.kept.peers or {}) == peers
        return len(shard.plan.blocks), rank.session.names.count("descriptors")

    counts, rounds = zip(*on_ranks(ranks, run), strict=True)
    assert max(counts) > 512 // ranks**2
    assert set(rounds) == {-(-max(counts) // (512 // ranks**2))}


@pytest.mark.parametrize("in_flight", [1, 9, 30])
def test_rounds_of_ranks_with_uneven_blocks(in_flight: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The middle rank's experts begin and end within pages, so its store has more blocks."""
    monkeypatch.setattr("dwdp_lab.execute.cuda.memory.block_transport.IN_FLIGHT", in_flight)
    model = MODEL | {"experts": 7, "expert_intermediate": 80, "hidden": 48}
    work = scenario(3, **{"model": model, "strategy.weight_view": "composite"})

    def run(rank: Rank) -> int:
        run_all_layers(rank, work)
        assert rank.kept.shard is not None
        return len(rank.kept.shard.plan.blocks)

    assert len(set(on_ranks(3, run))) > 1
