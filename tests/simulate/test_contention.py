"""Contention levels: the closed form against the paper's table, and those of simulated runs."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.contention import level_probabilities, mean_level, measured_levels, slowed_share
from dwdp_lab.simulate.paper import as_printed
from dwdp_lab.simulate.paper_data import paper_data

TABLE = paper_data("table2")["rows"]


@pytest.mark.parametrize("ranks", TABLE)
def test_every_printed_digit_of_table_2(ranks: str) -> None:
    ours = level_probabilities(int(ranks))
    assert list(ours) == list(range(1, int(ranks)))
    assert [as_printed(100 * p, text) for p, text in zip(ours.values(), TABLE[ranks], strict=True)] == [
        float(text) for text in TABLE[ranks]
    ]


@given(st.integers(2, 80))
def test_levels_are_one_more_than_a_binomial(ranks: int) -> None:
    ours = level_probabilities(ranks)
    share = Fraction(1, ranks - 1)
    for level, probability in ours.items():
        exact = comb(ranks - 2, level - 1) * share ** (level - 1) * (1 - share) ** (ranks - 1 - level)
        assert probability == pytest.approx(float(exact), rel=1e-12)
    assert sum(ours.values()) == pytest.approx(1)
    assert mean_level(ranks) == pytest.approx(1 + (ranks - 2) / (ranks - 1))


def test_slices_are_slowed_only_when_all_in_flight_meet_a_crowd() -> None:
    """The paper's example of two slices in flight, which only C >= 3 on both slows."""
    assert [round(100 * slowed_share(ranks), 1) for ranks in (3, 4, 6, 8, 16)] == [0.0, 1.2, 3.3, 4.3, 5.7]
    assert slowed_share(8, in_flight=3) < slowed_share(8) < slowed_share(8, in_flight=1)


def test_one_rank_pulls_nothing() -> None:
    with pytest.raises(ScenarioError, match=r"group\.ranks = 1"):
        level_probabilities(1)


def _pulling(**changes: object) -> Scenario:
    workload = {"tokens_per_rank": 64, "cv": 0.0}
    return Scenario.create(model={"preset": "tiny", "layers": 12}, link_gbps=0.5, workload=workload).replace(**changes)


def test_two_ranks_never_meet() -> None:
    assert measured_levels(_pulling()) == {1: pytest.approx(1.0)}


def test_in_phase_rotation_keeps_sources_apart_and_ascending_order_does_not() -> None:
    """Ascending: all but rank 0 start at rank 0, which starts at 1."""
    four = _pulling(**{"group.ranks": 4})
    assert measured_levels(four.replace(**{"strategy.peer_order": "rotated"}))[1] == pytest.approx(1.0)
    together = measured_levels(four.replace(**{"strategy.peer_order": "ascending"}))
    assert sum(together.values()) == pytest.approx(1)
    assert together[3] > 0.3
    assert max(together) <= 3


def test_slices_of_one_peer_after_another_have_levels() -> None:
    sliced = _pulling(**{"group.ranks": 4, "strategy.slice_bytes": 2048, "strategy.peer_order": "rotated"})
    assert measured_levels(sliced)[1] == pytest.approx(1.0)


def test_slices_have_no_level() -> None:
    with pytest.raises(ScenarioError, match=r"strategy\.slice_bytes = 2048"):
        measured_levels(_pulling(**{"strategy.slice_bytes": 2048, "strategy.peer_order": "interleaved"}))
