"""How many ranks read one source at once: by chance, in closed form, and in a simulated run.

The random-state model (arXiv 2604.01621, section 4.3.1): each of N ranks pulls from one peer at a time, drawn evenly
and on its own. Of the other N - 2 possible readers of my source, X ~ Binomial(N - 2, 1 / (N - 1)) are there too: the
contention level is C = X + 1, and a copy engine that serves them in turn takes C times as long.
"""

from __future__ import annotations

import math
from math import comb

from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.hardware import Hardware, load_hardware
from dwdp_lab.simulate.outcome import outcome
from dwdp_lab.simulate.physics import BOUND, Physics


def level_probabilities(ranks: int) -> dict[int, float]:
    """Probability of each contention level 1 to N - 1 in a group of N ranks.

    >>> [round(100 * p, 2) for p in level_probabilities(4).values()]
    [44.44, 44.44, 11.11]

    Raises ScenarioError for fewer than two ranks.
    """
    if ranks < 2:
        raise ScenarioError("group.ranks", ranks, "must be at least 2: one rank pulls nothing")
    others, peers = ranks - 2, ranks - 1
    # the numerators are whole: no digit is lost where probabilities become tiny
    return {c: comb(others, c - 1) * others ** (others - c + 1) / peers**others for c in range(1, ranks)}


def mean_level(ranks: int) -> float:
    """Expected contention level, 1 + (N - 2) / (N - 1)."""
    return math.fsum(level * probability for level, probability in level_probabilities(ranks).items())


def slowed_share(ranks: int, in_flight: int = 2) -> float:
    """Share of the time in which slices are slowed: every one in flight meets more readers than that.

    A copy engine that keeps `in_flight` slices going loses nothing as long as one of them gets through; the levels of
    the slices are taken as independent (section 4.3.2 has two in flight, slowed when both see C >= 3).
    """
    crowded = math.fsum(p for level, p in level_probabilities(ranks).items() if level > in_flight)
    return crowded**in_flight


def measured_levels(scenario: Scenario, hardware: Hardware | None = None, physics: Physics = BOUND) -> dict[int, float]:
    """Share of the pulls' time with c readers on their source, c from 1 up, in a simulated DWDP run.

    Raises ScenarioError for slices: they read all peers in turn, so no single source has a level.
    """
    if scenario.strategy.slice_bytes is not None and scenario.strategy.peer_order in ("interleaved", "permutation"):
        raise ScenarioError(
            "strategy.slice_bytes",
            scenario.strategy.slice_bytes,
            "must be none to count the readers of a source: slices in turn read from all peers at once",
            "compare exposed copy times instead",
        )
    profile = hardware or load_hardware(scenario.hardware)
    return outcome(scenario.with_strategy("dwdp"), profile, physics).readers_share
