"""Placement: windows, owners, and what is pulled from whom."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwdp_lab.program.placement import Placement


@st.composite
def placements(draw: st.DrawFn) -> Placement:
    experts = draw(st.integers(1, 80))
    ranks = draw(st.integers(1, 12))
    return Placement(experts, ranks, draw(st.integers(-(-experts // ranks), experts)))


@given(placements())
def test_every_remote_expert_is_pulled_once_from_a_rank_that_keeps_it(where: Placement) -> None:
    for rank in range(where.ranks):
        seen = Counter(where.local(rank))
        for peer, experts in where.pulled(rank):
            assert peer != rank
            assert set(experts) <= set(where.local(peer))
            seen.update(experts)
        assert seen == Counter(range(where.experts))


@given(placements())
def test_pulled_shares_are_even(where: Placement) -> None:
    if where.ranks == 1:
        return
    most = -(-(where.experts - where.local_experts) // (where.ranks - 1))
    for rank in range(where.ranks):
        for _, experts in where.pulled(rank):
            assert len(experts) in (most, most - 1)


@given(placements())
def test_computed_experts_partition_all_within_the_windows(where: Placement) -> None:
    everything = [expert for rank in range(where.ranks) for expert in where.computed(rank)]
    assert everything == list(range(where.experts))
    for rank in range(where.ranks):
        assert set(where.computed(rank)) <= set(where.local(rank))


@given(placements())
def test_computed_shares_are_as_even_as_the_windows_allow(where: Placement) -> None:
    """Where one begins elsewhere than evenly, the windows leave it no nearer place."""
    for rank in range(1, where.ranks):
        cut, even = where.computed(rank).start, rank * where.experts // where.ranks
        nearest = where.local(rank).start if cut > even else where.local(rank - 1).stop
        assert cut in (even, nearest)
    if where.local_experts == where.experts:
        sizes = {len(where.computed(rank)) for rank in range(where.ranks)}
        assert max(sizes) - min(sizes) <= 1


@given(st.integers(2, 9), st.integers(1, 9), st.integers(0, 40))
def test_papers_constraint_gives_the_papers_windows(ranks: int, pulled: int, extra: int) -> None:
    local = pulled + extra
    where = Placement(local + (ranks - 1) * pulled, ranks, local)
    for rank in range(ranks):
        assert where.local(rank) == range(rank * pulled, rank * pulled + local)
        for peer, experts in where.pulled(rank):
            window = where.local(peer)
            # a lower rank's head, a higher rank's tail: the source offsets of the production code
            assert experts == (window[:pulled] if peer < rank else window[-pulled:])


@pytest.mark.parametrize(
    ("experts", "ranks", "local", "starts"),
    [
        (256, 2, 200, (0, 56)),
        (256, 4, 64, (0, 64, 128, 192)),
        (256, 3, 86, (0, 85, 170)),
        (8, 3, 3, (0, 2, 5)),
    ],
)
def test_known_placements(experts: int, ranks: int, local: int, starts: tuple[int, ...]) -> None:
    assert Placement(experts, ranks, local).starts == starts
