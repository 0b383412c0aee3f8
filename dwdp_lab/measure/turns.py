"""In which order several things are measured several times. No torch."""

from __future__ import annotations

import random


def turns(count: int, repeats: int, seed: int) -> list[int]:
    """Each of `count` things once a round, round after round, each round in a random order of its own.

    What drifts meanwhile (clocks, temperature, other users of the machine) so spreads over all of them alike, and an
    interrupt leaves about as many repeats of each.
    """
    draw = random.Random(f"turns {seed}")
    order: list[int] = []
    for _ in range(repeats):
        order += draw.sample(range(count), count)
    return order
