"""The simulator's links under the slices that ranks pull, against both closed forms and against whole runs."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwdp_lab.measure.transfers.contention_levels import Reading, all_reading, distance, level_shares
from dwdp_lab.measure.transfers.contention_simulated import simulated_readings, simulated_times
from dwdp_lab.measure.transfers.pulled_layer import pulled_layer
from dwdp_lab.program.pull_plan import Slice, pull_plan
from dwdp_lab.simulate.contention import level_probabilities
from dwdp_lab.simulate.contention_sharing import sharing_probabilities

SHARE = 6144 * 64


def drawn_sources(ranks: int, slices: int, seed: int = 3) -> list[list[Slice]]:
    dice = random.Random(seed)
    return [
        [Slice(dice.choice([peer for peer in range(ranks) if peer != rank]), 0, 0, 1000) for _ in range(slices)]
        for rank in range(ranks)
    ]


@pytest.mark.parametrize("ranks", [3, 4, 8])
def test_random_sources_meet_as_the_closed_forms_say(ranks: int) -> None:
    """Without sharing the paper's binomial; with it the product form. The paper's misses what the links do."""
    pulls = drawn_sources(ranks, 12_000)
    starts = [random.Random(rank).random() for rank in range(ranks)]
    seen = {}
    for sharing in (False, True):
        readings = simulated_readings(pulls, starts, 1.0, sharing)
        seen[sharing] = level_shares(readings, all_reading(readings))
    assert distance(seen[False], level_probabilities(ranks)) < 0.01
    assert distance(seen[True], sharing_probabilities(ranks)) < 0.01
    assert distance(seen[True], level_probabilities(ranks)) > 0.05


@given(
    st.integers(2, 5),
    st.sampled_from(["ascending", "rotated", "interleaved", "permutation"]),
    st.sampled_from([None, 65536, 100_000]),
    st.lists(st.floats(0, 2000), min_size=5, max_size=5),
)
def test_no_byte_is_lost_and_no_source_gives_more_than_it_has(
    ranks: int, order: str, step: int | None, starts: list[float]
) -> None:
    scenario = pulled_layer(ranks, SHARE).replace(**{"strategy.peer_order": order, "strategy.slice_bytes": step})
    pulls = [pull_plan(scenario, rank).slices for rank in range(ranks)]
    readings = simulated_readings(pulls, starts[:ranks], 2.0)
    for rank in range(ranks):
        own = sorted((r for r in readings if r.rank == rank), key=lambda r: r.end_us)
        assert [r.source for r in own] == [piece.peer for piece in pulls[rank]]
        assert own[0].start_us == starts[rank]
        # one after another, without a pause, and never faster than alone
        assert [r.start_us for r in own[1:]] == pytest.approx([r.end_us for r in own[:-1]])
        for reading, piece in zip(own, pulls[rank], strict=True):
            assert reading.end_us - reading.start_us >= piece.nbytes / 2e3 * (1 - 1e-9)
    for source in range(ranks):
        moved = sum(p.nbytes for pull in pulls for p in pull if p.peer == source)
        assert busy_us([r for r in readings if r.source == source]) == pytest.approx(moved / 2e3)


def busy_us(readings: list[Reading]) -> float:
    """For how long anyone reads."""
    total, until = 0.0, float("-inf")
    for reading in sorted(readings, key=lambda r: r.start_us):
        total += max(0.0, reading.end_us - max(reading.start_us, until))
        until = max(until, reading.end_us)
    return total


def test_in_phase_rotation_never_meets_and_ascending_order_always_does() -> None:
    for order, alone in (("rotated", True), ("ascending", False)):
        scenario = pulled_layer(4, SHARE).replace(**{"strategy.peer_order": order})
        pulls = [pull_plan(scenario, rank).slices for rank in range(4)]
        shares = level_shares(simulated_readings(pulls, [0.0] * 4, 1.0))
        assert (shares.get(1, 0) == pytest.approx(1.0)) is alone


@pytest.mark.parametrize("order", ["ascending", "rotated"])
def test_slice_by_slice_and_stage_by_stage_agree_for_whole_shares(order: str) -> None:
    scenario = pulled_layer(4, SHARE).replace(**{"strategy.peer_order": order})
    starts = [0.0, 30.0, 55.5, 200.0]
    readings = simulated_readings([pull_plan(scenario, rank).slices for rank in range(4)], starts, 1.0)
    ends = [max(r.end_us for r in readings if r.rank == rank) - starts[rank] for rank in range(4)]
    assert simulated_times(scenario, starts, 1.0) == pytest.approx(ends)


def test_slices_in_turn_are_held_up_unless_several_are_in_flight() -> None:
    """Out of phase, one slice in flight meets crowds as whole shares do; stages that read all peers at once do not."""
    scenario = pulled_layer(4, SHARE).replace(**{"strategy.peer_order": "interleaved", "strategy.slice_bytes": 32768})
    pulls = [pull_plan(scenario, rank).slices * 10 for rank in range(4)]
    dice = random.Random(5)
    starts = [dice.uniform(0, 3 * SHARE / 1e3) for _ in range(4)]
    readings = simulated_readings(pulls, starts, 1.0)
    one_in_flight = [max(r.end_us for r in readings if r.rank == rank) - starts[rank] for rank in range(4)]
    many_in_flight = simulated_times(scenario, starts, 1.0, rounds=10)
    alone = 10 * 3 * SHARE / 1e3
    assert many_in_flight == pytest.approx([alone] * 4)
    assert sum(one_in_flight) / 4 > 1.3 * alone


@pytest.mark.parametrize("rate", [0.0, -1.0, float("inf"), float("nan")])
def test_a_link_has_a_rate(rate: float) -> None:
    with pytest.raises(ValueError, match="link's rate"):
        simulated_readings([[Slice(1, 0, 0, 10)], []], [0.0, 0.0], rate)
