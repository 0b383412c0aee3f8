"""How many ranks read one source at once when those who share a source are slowed by it: in closed form.

The binomial of simulate/contention.py takes a rank's source as drawn evenly at any moment. But a crowded source lets
its readers go later, so ranks are found there more often than they choose it. If every rank draws the next source
evenly from its peers, and a source serves its k readers at 1/k of its rate each, the group is a closed network of
processor-sharing stations, and its stationary distribution has product form (Baskett, Chandy, Muntz and Palacios,
Journal of the ACM 22(2), 1975): a state, which says where each rank reads, has a probability in proportion to the
product of n! over the sources, n being a source's readers.
"""

from __future__ import annotations

from math import comb, factorial, prod

from dwdp_lab.scenario.errors import ScenarioError


def sharing_probabilities(ranks: int) -> dict[int, float]:
    """Share of reading time at each contention level 1 to N - 1, whatever the sizes of what is read.

    >>> [round(p * 7, 9) for p in sharing_probabilities(3).values()]
    [3.0, 4.0]

    Raises ScenarioError for fewer than two ranks.
    """
    if ranks < 2:
        raise ScenarioError("group.ranks", ranks, "must be at least 2: one rank pulls nothing")
    weights = {level: _weight(ranks, level) for level in range(1, ranks)}
    total = sum(weights.values())
    return {level: weight / total for level, weight in weights.items()}


def _weight(ranks: int, level: int) -> int:
    """Summed weight of all states in which rank 0 reads from rank 1 together with `level` - 1 others.

    n! counts the orders in which n readers can stand in a queue. So the weight of all states is the number of ways to
    put the ranks into ordered queues, none into its own: `level` of them into that of rank 1, the rest into the others.
    Of the rest only rank 1 may go anywhere. Those who may not are counted by inclusion and exclusion: f of them stand
    in their own queues, then each further rank goes to any place in any queue, one place more each time.
    """
    rest, queues = ranks - level, ranks - 1
    restricted = rest - 1
    placed: int = sum(
        int((-1) ** f) * comb(restricted, f) * prod(queues + f + more for more in range(rest - f)) for f in range(rest)
    )
    return comb(ranks - 2, level - 1) * factorial(level) * placed
