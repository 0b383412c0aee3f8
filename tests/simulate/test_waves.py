"""Slices followed one by one: fair, never beyond a link, and what each order reaches in and out of phase."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.waves import LinkShares, link_shares, max_min, reached

FLOWS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12)


@given(FLOWS)
def test_rates_are_max_min_fair(flows: list[tuple[int, int]]) -> None:
    """No end carries more than 1, and every flow is held back at an end that is full and on which none is faster."""
    rates = max_min(flows)
    for rate, flow in zip(rates, flows, strict=True):
        held_back = False
        for side in (0, 1):
            together = [r for r, other in zip(rates, flows, strict=True) if other[side] == flow[side]]
            assert sum(together) <= 1 + 1e-9
            held_back |= sum(together) >= 1 - 1e-9 and max(together) <= rate + 1e-9
        assert held_back


def _group(ranks: int, slice_bytes: str | None = None) -> Scenario:
    model = {"preset": "tiny", "experts": 8 * ranks, "layers": 1}
    return Scenario.create(model=model, group={"ranks": ranks}, strategy={"slice_bytes": slice_bytes})


def _by_order(shares: tuple[LinkShares, ...]) -> dict[str, LinkShares]:
    return {one.peer_order: one for one in shares}


@pytest.mark.parametrize("in_flight", [1, 2])
def test_two_ranks_have_a_link_each(in_flight: int) -> None:
    for one in link_shares(_group(2), in_flight):
        assert one.in_phase == pytest.approx(1.0)
        assert one.out_of_phase == pytest.approx(1.0)


@pytest.mark.parametrize("in_flight", [1, 2])
def test_in_phase_all_orders_but_the_ascending_one_are_permutations(in_flight: int) -> None:
    shares = _by_order(link_shares(_group(4), in_flight, draws=1))
    for order in ("rotated", "interleaved", "permutation"):
        assert shares[order].in_phase == pytest.approx(1.0)
    assert shares["ascending"].in_phase < 0.9


def test_ascending_in_phase_by_hand() -> None:
    """Four ranks, whole shares: ranks 1, 2, 3 at source 0 while 0 is alone at 1, and so on; one share takes 1."""
    shares = _by_order(link_shares(_group(4), in_flight=1, draws=1))
    assert shares["ascending"].in_phase == pytest.approx(0.5, abs=0.05)
    assert (shares["ascending"].slices_per_peer, shares["interleaved"].slices_per_peer) == (1, 24)


def test_with_slices_of_all_peers_in_flight_nobody_waits_for_another_for_long() -> None:
    """The limit in which the machine in virtual time simulates slices: all peers are read at once."""
    few, all_peers = (_by_order(link_shares(_group(4), in_flight, draws=2)) for in_flight in (1, 3))
    assert all_peers["interleaved"].out_of_phase > 0.97
    assert few["interleaved"].out_of_phase < 0.9


def test_slices_are_no_finer_than_asked_for() -> None:
    shares = _by_order(link_shares(_group(2, "1MiB")))
    assert shares["interleaved"].slices_per_peer == 2  # one copy per parameter


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(0, 5e3), min_size=3, max_size=3), st.integers(1, 3))
def test_no_link_is_overloaded_and_a_share_is_at_most_one(starts: list[float], in_flight: int) -> None:
    pulls = [[(1, 700.0), (2, 300.0)], [(2, 500.0), (0, 500.0)], [(0, 1000.0)]]
    assert 1 / 3 - 1e-9 <= reached(pulls, starts, in_flight) <= 1 + 1e-9


def test_who_pulls_nothing_reaches_everything() -> None:
    assert reached([[], []], [0.0, 0.0], 2) == 1.0
