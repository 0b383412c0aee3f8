"""Answers that are right for what `show` shows, or for the first cases, and wrong elsewhere: each is caught."""

from __future__ import annotations

import math
from typing import Any

import pytest
from course import catches
from torch import Tensor

from dwdp_lab.scenario.model_shape import ModelShape
from dwdp_lab.teach import barriers_answers, moe_layer_answers, moving_weights_answers, split_weights_answers

E_N = {1: 0.0, 2: 0.5642, 3: 0.8463, 4: 1.0294, 8: 1.4236, 16: 1.7660, 72: 2.3879}


def from_a_table(cv: float, ranks: int) -> float:
    return 1 + cv * E_N.get(ranks, 1.0)


def whole_milliseconds(work_ms: list[list[float]]) -> int:
    return sum(int(max(layer)) for layer in work_ms)


def first_tokens_weights(x: Tensor, ids: Tensor, weights: Tensor, w13: list[Tensor], w2: list[Tensor]) -> Tensor:
    return moe_layer_answers.experts(x, ids, weights[:1].expand(weights.shape), w13, w2)


def peers_for_experts(experts: int, local: int, top_k: int, size: float, tflops: float, gbps: float) -> float:
    """N - 1 in place of E - L: the same while L is 1."""
    return (experts / local - 1) * size * tflops * 1e3 / (2 * top_k * gbps)


def microsecond_by_microsecond(compute: list[tuple[float, float]], copies: list[tuple[float, float]]) -> int:
    def busy(lane: list[tuple[float, float]], at: int) -> bool:
        return any(first <= at and at + 1 <= last for first, last in lane)

    return sum(busy(copies, at) and not busy(compute, at) for at in range(int(compute[-1][1])))


def latency_of_nothing(sizes: list[int], times_us: list[float]) -> tuple[float, float]:
    return math.nan, moving_weights_answers.fit_copy(sizes, times_us)[1]


def nothing_moved(shape: ModelShape, local: int, view: str) -> tuple[float, float]:
    return split_weights_answers.view_costs(shape, local, view)[0], math.nan


def half_an_expert(experts: int, ranks: int, layers: int, nbytes: int, slots: int, free: int) -> tuple[float, float]:
    local = min(experts, (free / nbytes - slots * experts) / (layers - slots))
    return local, (experts - local) / (ranks - 1)


WRONG: list[tuple[str, Any, str, str]] = [
    # exercise, answer, property, words of the counter-example
    ("barriers.slowest_over_mean", from_a_table, "the expected maximum, within 1 %", "(0.3, 5)"),
    ("barriers.step_ms", whole_milliseconds, "every layer has a slowest rank of its own", "0.125"),
    ("barriers.slowest_over_mean", lambda cv, n: None if n == 2 else 1 + cv * E_N[n], "more ranks wait longer", "None"),
    ("barriers.deal", lambda lengths, ranks: [[lengths]] + [[]] * (ranks - 1), "every request on one rank", "else"),
    ("moe_layer.experts", first_tokens_weights, "each expert counts by its weight", "token 1"),
    (
        "rooflines.hiding_tokens",
        peers_for_experts,
        "more bytes to pull need more tokens",
        "hiding_tokens(3, 2, 1, 1, 1, 1)",
    ),
    ("real_cost.exposed_us", microsecond_by_microsecond, "only the part that is not covered counts", "0.5"),
    ("real_cost.savings", lambda dep, *_: dict.fromkeys(set(dep) - {"iteration", "copy", "p2p_copy"}, math.nan),
     "each row in per cent of DEP's iteration", "nan"),
    ("moving_weights.fit_copy", latency_of_nothing, "two copies give a line", "a pair"),
    ("moving_weights.fit_copy", lambda *_: (10.0, math.inf), "two copies give a line", "a pair"),
    ("moving_weights.windows", lambda _, n, local: [range(-r, local - r) for r in range(n)],
     "no expert that does not exist", "window is -1 to"),
    ("split_weights.view_costs", nothing_moved, "only a merge moves bytes", "nan"),
    (
        "judging.most_local",
        half_an_expert,
        "every peer gives P, and L + (N - 1) P are all experts",
        "whole numbers",
    ),
    ("moe_layer.route", lambda logits, _: logits, "the largest logits are chosen, best first", "which is no list"),
    ("contention.level_probability", lambda n, _: 1.0 if n == 2 else 0.5 if n == 3 else "",
     "some level it always is", "level_probability(4, 1) gives '', which is not a number"),
    ("contention.wave_peer", lambda rank, ranks, wave: (rank + 1 + wave % (ranks - 1)) % ranks / 1,
     "it names a peer, in every wave", "a rank is an int"),
    ("contention.smallest_slice", lambda *_: 65536.0, "a power of two, from 64 KiB up", "give an int"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "answer", "violated", "words"), WRONG)
def test_it_is_caught_by_its_property(key: str, answer: Any, violated: str, words: str) -> None:
    catches(key, answer, violated, words)


def test_the_table_is_right_for_all_that_is_shown() -> None:
    for ranks, e in E_N.items():
        assert 1 + 0.4 * e == pytest.approx(barriers_answers.slowest_over_mean(0.4, ranks), abs=1e-3)
