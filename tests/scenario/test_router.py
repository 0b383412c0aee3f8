"""Who visits which expert: against Zipf's law, and against routings that are drawn."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwdp_lab.scenario.router import visit_probability


def zipf(experts: int, skew: float) -> list[float]:
    weights = [place**-skew for place in range(1, experts + 1)]
    return [weight / sum(weights) for weight in weights]


@given(st.integers(2, 300), st.floats(0, 4), st.integers(0, 9), st.integers(0, 99))
def test_one_of_one_is_chosen_as_often_as_zipf_has_it(experts: int, skew: float, seed: int, layer: int) -> None:
    visits = visit_probability(experts, 1, skew, seed, layer)
    assert sorted(visits, reverse=True) == pytest.approx(zipf(experts, skew))


@given(st.integers(1, 300), st.floats(0, 4), st.data())
def test_a_router_that_visits_all_visits_each_and_an_even_one_visits_all_alike(
    experts: int, skew: float, data: st.DataObject
) -> None:
    top_k = data.draw(st.integers(1, experts))
    assert visit_probability(experts, experts, skew, 0, 0) == (1.0,) * experts
    assert visit_probability(experts, top_k, 0.0, 0, 0) == (top_k / experts,) * experts


@pytest.mark.parametrize(("experts", "top_k", "within"), [(16, 2, 0.1), (16, 4, 0.05), (64, 8, 0.05)])
@pytest.mark.parametrize("skew", [0.3, 1.0, 1.5])
def test_the_first_k_of_exponential_clocks(experts: int, top_k: int, within: float, skew: float) -> None:
    draw, tokens, met = random.Random(2), 20_000, [0] * experts
    shares = zipf(experts, skew)
    for _ in range(tokens):
        clocks = sorted((draw.expovariate(share), expert) for expert, share in enumerate(shares))
        for _, expert in clocks[:top_k]:
            met[expert] += 1
    visits = sorted(visit_probability(experts, top_k, skew, 0, 0), reverse=True)
    for place in range(experts // 2):  # of the others too few are drawn
        assert visits[place] == pytest.approx(met[place] / tokens, rel=within)


def test_each_layer_and_each_seed_deals_anew() -> None:
    dealt = {visit_probability(32, 4, 1.0, seed, layer) for seed in range(3) for layer in range(3)}
    assert len(dealt) == 9
