"""Contention levels from intervals, against counting moment by moment; and Jain's index."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwdp_lab.measure.transfers.contention_levels import (
    Reading,
    all_reading,
    distance,
    fairness,
    level_shares,
    mean_of,
)

RANKS = 4
TIMES = st.integers(0, 12)
READINGS = st.lists(
    st.builds(
        lambda rank, source, start, length: Reading(rank, source, float(start), float(start + length)),
        st.integers(0, RANKS - 1),
        st.integers(0, RANKS - 1),
        TIMES,
        st.integers(0, 6),
    ),
    max_size=12,
)


def moment_by_moment(readings: list[Reading], first: int = 0, last: int = 24) -> dict[int, float]:
    """The slow obvious version: whole microseconds, one after another."""
    found: Counter[int] = Counter()
    for moment in range(first, last):
        for source in range(RANKS):
            here = {r.rank for r in readings if r.source == source and r.start_us <= moment < r.end_us}
            found[len(here)] += len(here)
    total = found.total()
    return {level: found[level] / total for level in found if level} if total else {}


@given(READINGS)
def test_levels_are_those_of_counting_moment_by_moment(readings: list[Reading]) -> None:
    assert level_shares(readings) == pytest.approx(moment_by_moment(readings))


@given(READINGS, TIMES, TIMES)
def test_only_the_window_counts(readings: list[Reading], first: int, last: int) -> None:
    assert level_shares(readings, (first, last)) == pytest.approx(moment_by_moment(readings, first, last))


@given(READINGS, st.floats(0.1, 1e6), st.floats(-1e6, 1e6))
def test_neither_the_unit_nor_the_start_of_the_clock_matters(readings: list[Reading], unit: float, zero: float) -> None:
    other = [r._replace(start_us=r.start_us * unit, end_us=r.end_us * unit) for r in readings]
    assert level_shares(other) == pytest.approx(level_shares(readings))
    later = [r._replace(start_us=r.start_us + round(zero), end_us=r.end_us + round(zero)) for r in readings]
    assert level_shares(later) == pytest.approx(level_shares(readings))


@given(READINGS)
def test_shares_are_a_distribution_over_the_ranks_there_are(readings: list[Reading]) -> None:
    shares = level_shares(readings)
    assert sum(shares.values()) == pytest.approx(1 if any(r.end_us > r.start_us for r in readings) else 0)
    assert all(1 <= level <= RANKS and share > 0 for level, share in shares.items())
    assert not shares or 1 <= mean_of(shares) <= RANKS
    assert distance(shares, shares) == 0


def test_by_hand() -> None:
    """Ranks 1 and 2 share source 0 for 2 of their 4 us each; rank 0 reads alone for 4."""
    readings = [Reading(0, 1, 0, 4), Reading(1, 0, 0, 4), Reading(2, 0, 2, 6)]
    assert level_shares(readings) == pytest.approx({1: 8 / 12, 2: 4 / 12})
    assert all_reading(readings) == (2, 4)
    assert level_shares(readings, all_reading(readings)) == pytest.approx({1: 2 / 6, 2: 4 / 6})
    assert mean_of({1: 0.25, 3: 0.75}) == 2.5
    assert distance({1: 0.25, 3: 0.75}, {1: 0.5, 2: 0.5}) == 0.75
    assert level_shares([]) == {}
    one_after_another = [Reading(0, 1, 3, 9), Reading(0, 2, 0, 3), Reading(1, 2, 4, 8), Reading(1, 0, 1, 4)]
    assert all_reading(one_after_another) == (1, 8)
    assert all_reading(one_after_another[::-1]) == (1, 8)
    assert all_reading([]) == (0, 0)
    assert distance({1: 1.0}, {2: 1.0}) == 1


@given(READINGS.filter(lambda readings: bool(readings)))
def test_all_that_read_do_so_throughout_the_common_window_if_they_never_pause(readings: list[Reading]) -> None:
    one_each = {r.rank: r for r in readings}
    first, last = all_reading(list(one_each.values()))
    for reading in one_each.values():
        assert reading.start_us <= first
        assert reading.end_us >= last


RATES = st.lists(st.just(0.0) | st.floats(1e-6, 1e12), min_size=1, max_size=9).filter(lambda rates: max(rates) > 0)


@given(RATES, st.floats(1e-3, 1e3))
def test_jains_index_keeps_its_promises(rates: list[float], factor: float) -> None:
    index = fairness(rates)
    assert 1 / len(rates) <= index * (1 + 1e-9)
    assert index <= 1 + 1e-9
    assert fairness([rate * factor for rate in rates]) == pytest.approx(index)
    assert fairness(sorted(rates)) == pytest.approx(index)
    # k of n get the same and the others nothing: k / n
    assert fairness([1.0] * len(rates) + [0.0] * len(rates)) == pytest.approx(0.5)


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_amounts_whose_squares_no_float_holds_are_as_fair_as_others(size: float) -> None:
    assert fairness([size, size, size, 0.0]) == pytest.approx(0.75)


@pytest.mark.parametrize("values", [[], [0.0, 0.0], [1.0, -1.0]])
def test_nothing_is_no_fair_share(values: list[float]) -> None:
    with pytest.raises(ValueError, match="amounts from zero up"):
        fairness(values)
