"""Pull plans: bytes, order, slices; and the simulator's summary of them."""

from __future__ import annotations

from collections import Counter
from itertools import groupby, pairwise

import pytest
from any_scenario import scenarios
from hypothesis import given

from dwdp_lab.program.placement import placement
from dwdp_lab.program.pull_plan import Slice, pull_of, pull_plan
from dwdp_lab.scenario.scenario import Scenario


@given(scenarios(names=("dwdp",)))
def test_copies_bring_every_remote_byte_to_its_place_exactly_once(scenario: Scenario) -> None:
    where = placement(scenario)
    for rank in range(scenario.ranks):
        plan = pull_plan(scenario, rank)
        local = where.local(rank)
        owner = {e: peer for peer, share in where.pulled(rank) for e in share}
        everyone = scenario.strategy.weight_view != "split"
        slot_order = [e for e in range(where.experts) if everyone or e not in local]
        wanted: dict[int, tuple[int, int]] = {}  # byte of the slot -> (peer, byte of its shard)
        for name, size in plan.slot.parameters:
            for place, expert in enumerate(slot_order):
                if expert in local:
                    continue
                peer = owner[expert]
                source = plan.shard.offset(name, expert - where.local(peer).start)
                target = plan.slot.offset(name, place)
                wanted |= {target + i: (peer, source + i) for i in range(0, size, 97)}
        got: dict[int, tuple[int, int]] = {}
        covered: Counter[int] = Counter()
        for piece in plan.slices:
            assert 0 <= piece.slot_offset <= plan.slot.nbytes - piece.nbytes
            assert 0 <= piece.source_offset <= plan.shard.nbytes - piece.nbytes
            covered.update({piece.slot_offset: piece.nbytes})
            for target in wanted:
                if piece.slot_offset <= target < piece.slot_offset + piece.nbytes:
                    got[target] = (piece.peer, piece.source_offset + target - piece.slot_offset)
        assert got == wanted
        ends = sorted((start, start + size) for start, size in covered.items())
        assert all(before[1] <= after[0] for before, after in pairwise(ends))
        remote = sum(len(share) for _, share in where.pulled(rank))
        assert sum(covered.values()) == remote * sum(size for _, size in plan.slot.parameters)


@given(scenarios(names=("dwdp",)))
def test_summary_has_the_plans_bytes_copies_and_sources(scenario: Scenario) -> None:
    for rank in range(scenario.ranks):
        plan, pull = pull_plan(scenario, rank), pull_of(scenario, rank)
        per_peer: Counter[int] = Counter()
        for piece in plan.slices:
            per_peer[piece.peer] += piece.nbytes
        summed: Counter[int] = Counter()
        for stage in pull.stages:
            summed.update({peer: round(nbytes) for peer, nbytes in stage.sources})
        assert summed == per_peer
        assert pull.copies == len(plan.slices)
        assert pull.nbytes == sum(per_peer.values())
        if all(len(stage.sources) == 1 for stage in pull.stages) and pull.stages:
            order = [peer for peer, _ in groupby(plan.slices, key=lambda piece: piece.peer)]
            stages = [peer for peer, _ in groupby(stage.sources[0][0] for stage in pull.stages)]
            if scenario.strategy.slice_bytes is None or scenario.strategy.peer_order in (
                "ascending",
                "rotated",
            ):
                assert order == stages


def _peers(order: str, rank: int, ranks: int = 4, slice_bytes: int | None = 4096) -> list[int]:
    scenario = Scenario.create(
        model="tiny",
        group={"ranks": ranks},
        strategy={"peer_order": order, "slice_bytes": slice_bytes},
        workload={"tokens_per_rank": 8, "kind": "cv"},
    )
    return [piece.peer for piece in pull_plan(scenario, rank).slices]


def test_ascending_visits_the_lowest_peer_first_on_every_rank() -> None:
    assert [peer for peer, _ in groupby(_peers("ascending", 2))] == [0, 1, 3]
    assert _peers("ascending", 3)[0] == 0


def test_rotated_starts_behind_the_own_rank() -> None:
    assert [peer for peer, _ in groupby(_peers("rotated", 2))] == [3, 0, 1]


def test_interleaved_changes_the_peer_with_every_slice() -> None:
    peers = _peers("interleaved", 1)
    assert peers[:6] == [2, 3, 0, 2, 3, 0]


@pytest.mark.parametrize("ranks", [2, 4])
def test_permutation_waves_read_every_source_once_in_phase(ranks: int) -> None:
    in_phase = list(zip(*(_peers("permutation", rank, ranks) for rank in range(ranks)), strict=True))
    assert all(sorted(wave) == list(range(ranks)) for wave in in_phase)
    if ranks > 2:  # and the order of the shifts changes from round to round
        shifts = [(wave[0] - 0) % ranks for wave in in_phase]
        assert len({tuple(shifts[i : i + ranks - 1]) for i in range(0, len(shifts), ranks - 1)}) > 1


def test_slices_have_the_asked_size_but_for_the_last_of_a_piece() -> None:
    scenario = Scenario.create(model="tiny", strategy={"slice_bytes": 5000, "peer_order": "rotated"})
    sizes = [piece.nbytes for piece in pull_plan(scenario, 0).slices]
    assert set(sizes[:-1]) >= {5000}
    assert max(sizes) == 5000


def test_whole_shares_are_one_copy_per_parameter_and_peer() -> None:
    scenario = Scenario.create(model="tiny", group={"ranks": 4})
    assert all(isinstance(piece, Slice) for piece in pull_plan(scenario, 0).slices)
    assert len(pull_plan(scenario, 0).slices) == 2 * 3
