"""The distribution of contention when readers slow each other, against summing over all states."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import product
from math import factorial, prod

import pytest

from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.simulate.contention import level_probabilities, mean_level
from dwdp_lab.simulate.contention_sharing import sharing_probabilities


def over_all_states(ranks: int) -> dict[int, Fraction]:
    """Every way in which ranks can read from peers, weighted by the product of n! over the sources."""
    weights: Counter[int] = Counter()
    peers = [[peer for peer in range(ranks) if peer != rank] for rank in range(ranks)]
    for state in product(*peers):
        readers = Counter(state)
        weights[readers[state[0]]] += prod(factorial(count) for count in readers.values())
    return {level: Fraction(weights[level], weights.total()) for level in sorted(weights)}


@pytest.mark.parametrize("ranks", [2, 3, 4, 5, 6])
def test_it_is_the_sum_over_all_states(ranks: int) -> None:
    assert sharing_probabilities(ranks) == pytest.approx({k: float(p) for k, p in over_all_states(ranks).items()})


@pytest.mark.parametrize("ranks", [3, 4, 8, 16, 72])
def test_sharing_makes_crowds_likelier_than_chance(ranks: int) -> None:
    shared, drawn = sharing_probabilities(ranks), level_probabilities(ranks)
    assert list(shared) == list(drawn)
    assert sum(shared.values()) == pytest.approx(1)
    assert all(share >= 0 for share in shared.values())
    assert shared[1] < drawn[1]
    assert sum(level * share for level, share in shared.items()) > mean_level(ranks)


def test_one_rank_pulls_nothing() -> None:
    with pytest.raises(ScenarioError, match=r"group\.ranks = 1"):
        sharing_probabilities(1)
