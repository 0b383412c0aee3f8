"""One right answer to each exercise of the lesson on rooflines."""

from __future__ import annotations

from collections.abc import Callable


def core_flops(lengths: list[int], flops_per_pair: int) -> int:
    pairs = sum(n * (n + 1) // 2 for n in lengths)  # token i sees i tokens: those before it, and itself
    return flops_per_pair * pairs


def fewest_tokens(ratio: Callable[[int], float], most: int) -> int | None:
    too_few, enough = 0, 1
    while ratio(enough) < 1:
        if enough == most:
            return None
        too_few, enough = enough, min(2 * enough, most)
    while enough - too_few > 1:  # the answer is above too_few, and at most enough
        middle = (too_few + enough) // 2
        if ratio(middle) < 1:
            too_few = middle
        else:
            enough = middle
    return enough


def hiding_tokens(
    experts: int, local: int, top_k: int, bytes_per_param: float, tflops: float, link_gbps: float
) -> float:
    # For an expert of w parameters:
    #   pull:    (E - L) w bytes_per_param / link
    #   compute: tokens * top_k * 2 w / rate
    # Equal when the tokens are as follows; w has gone.
    return (experts - local) * bytes_per_param * tflops * 1e12 / (2 * top_k * link_gbps * 1e9)
