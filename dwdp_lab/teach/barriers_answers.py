"""One right answer to each exercise of the lesson on barriers."""

from __future__ import annotations


def step_ms(work_ms: list[list[float]]) -> float:
    return sum(max(layer) for layer in work_ms)


def slowest_over_mean(cv: float, ranks: int) -> float:
    from statistics import NormalDist

    # E[max] = mean (1 + cv e), where e = E[max of `ranks` standard normals].
    # The largest is x when any one of the ranks is x and the others are below.
    normal, step = NormalDist(), 0.01
    points = [step * i for i in range(-800, 801)]
    e = sum(x * ranks * normal.pdf(x) * normal.cdf(x) ** (ranks - 1) * step for x in points)
    return 1 + cv * e


def tokens_cv(ratio: float, requests: int) -> float:
    from math import sqrt

    mean = (1 + ratio) / 2
    deviation = (1 - ratio) / sqrt(12)  # of a uniform distribution as wide as 1 - ratio
    return deviation / mean / sqrt(requests)


def deal(lengths: list[int], ranks: int) -> list[list[int]]:
    batches: list[list[int]] = [[] for _ in range(ranks)]
    for length in sorted(lengths, reverse=True):  # the largest first: the small ones fill what is left
        min(batches, key=sum).append(length)
    return batches
