"""How uneven routing is: the popularity of experts."""

from __future__ import annotations

import math
import random
from functools import lru_cache


@lru_cache(maxsize=4096)
def popularity(experts: int, skew: float, seed: int, layer: int) -> tuple[float, ...]:
    """Share of each expert in one layer's routing, summing to 1: Zipf with exponent `skew`.

    Which expert is the popular one is drawn anew for every layer.
    """
    weights = [(place + 1) ** -skew for place in range(experts)]
    if skew:
        random.Random(f"router {seed} {layer}").shuffle(weights)
    total = math.fsum(weights)
    return tuple(weight / total for weight in weights)


@lru_cache(maxsize=4096)
def visit_probability(experts: int, top_k: int, skew: float, seed: int, layer: int) -> tuple[float, ...]:
    """Probability that a token visits each expert of a layer; they sum to top_k.

    A token visits k *different* experts, each more likely the more popular it is: the first k of exponential clocks
    that tick at the rate of the popularity (the same as adding log popularity to Gumbel-distributed router scores).
    An expert is among them when it ticks before the time at which k have ticked on average.
    """
    if top_k == experts or not skew:  # what is known needs no search, whose last bit depends on the system's expm1
        return (top_k / experts,) * experts
    shares = popularity(experts, skew, seed, layer)
    low, high = 0.0, 1.0
    while math.fsum(_ticked(shares, high)) < top_k:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if math.fsum(_ticked(shares, middle)) < top_k else (low, middle)
    ticked = _ticked(shares, high)
    scale = top_k / math.fsum(ticked)  # removes what bisection left
    return tuple([share * scale for share in ticked])


def _ticked(rates: tuple[float, ...], time: float) -> list[float]:
    """Probability that each clock has ticked by then."""
    return [-math.expm1(-rate * time) for rate in rates]
