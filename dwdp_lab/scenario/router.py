"""How uneven routing is: experts are as popular as Zipf's law with exponent `skew` has it, and each layer draws anew
which of them the popular ones are."""

from __future__ import annotations

import math
import random
from functools import lru_cache


@lru_cache(maxsize=4096)
def visit_probability(experts: int, top_k: int, skew: float, seed: int, layer: int) -> tuple[float, ...]:
    """Probability that a token visits each expert of a layer; they sum to top_k.

    A token visits k *different* experts, each more likely the more popular it is: the first k of exponential clocks
    that tick at the rate of the popularity (the same as adding log popularity to Gumbel-distributed router scores).
    An expert is taken to be among them when it ticks before the time at which k have ticked on average. For one of one
    (k = 1) that is not needed, and from k = 2 on it is within a tenth, from 4 on within a twentieth, of the truth.
    """
    return _dealt(_visits(experts, top_k, skew), skew, seed, layer)


def _dealt(by_place: tuple[float, ...], skew: float, seed: int, layer: int) -> tuple[float, ...]:
    """What belongs to each place, the most popular first, as the layer deals the places to its experts."""
    if not skew:
        return by_place
    dealt = list(by_place)
    random.Random(f"router {seed} {layer}").shuffle(dealt)
    return tuple(dealt)


def _zipf(experts: int, skew: float) -> tuple[float, ...]:
    weights = [(place + 1) ** -skew for place in range(experts)]
    total = math.fsum(weights)
    return tuple([weight / total for weight in weights])


@lru_cache(maxsize=64)
def _visits(experts: int, top_k: int, skew: float) -> tuple[float, ...]:
    """By place. Layers only deal places anew, so the search for the time is one for all of them."""
    if top_k == experts or not skew:  # what is known needs no search, whose last bit depends on the system's expm1
        return (top_k / experts,) * experts
    shares = _zipf(experts, skew)
    if top_k == 1:
        return shares
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
