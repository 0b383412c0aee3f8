"""Right answers that are not written as the solution is: each passes."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from math import comb, prod
from typing import Any

import numpy as np
import pytest
import torch
from course import named
from torch import Tensor

from dwdp_lab.program.operation import Op
from dwdp_lab.program.placement import Placement
from dwdp_lab.program.rank_view import RankView
from dwdp_lab.scenario.model_shape import ModelShape
from dwdp_lab.teach import (
    barriers_answers,
    contention_answers,
    moe_layer_answers,
    moving_weights_answers,
    real_cost_answers,
    rooflines_answers,
    schedule_answers,
    split_weights_answers,
)

Given = Callable[..., Any]


def as_it_is(answer: Given, change: Callable[[Any], Any]) -> Given:
    """The same answer, its result in another form."""

    def changed(*arguments: Any) -> Any:
        return change(answer(*arguments))

    return changed


# --- barriers ------------------------------------------------------------------------------------------------------


def step_by_numpy(work_ms: list[list[float]]) -> Any:
    return np.array(work_ms).max(axis=1).sum()


def step_by_clock(work_ms: list[list[float]]) -> float:
    now = 0.0
    for layer in work_ms:
        now = max(now + work for work in layer)
    return now


def slowest_by_drawing(cv: float, ranks: int) -> Any:
    draw = np.random.default_rng(1).normal(1.0, cv, (100_000, ranks))
    return draw.max(axis=1).mean()


def cv_in_fractions(ratio: float, requests: int) -> float:
    r = Fraction(ratio)
    variance = (1 - r) ** 2 / 12 * requests
    return math.sqrt(variance) / ((1 + r) / 2 * requests)


def dealt_by_numpy(lengths: list[int], ranks: int) -> Any:
    return np.array_split(np.array(lengths, dtype=int), ranks)


def dealt_in_place(lengths: list[int], ranks: int) -> tuple[tuple[int, ...], ...]:
    lengths.sort(reverse=True)
    batches: list[list[int]] = [[] for _ in range(ranks)]
    while lengths:
        min(batches, key=sum).append(lengths.pop(0))
    return tuple(map(tuple, batches))


def all_to_the_last(lengths: list[int], ranks: int) -> Iterator[list[int]]:
    yield from ([] for _ in range(ranks - 1))
    yield lengths


# --- the MoE layer -------------------------------------------------------------------------------------------------


def route_by_numpy(logits: list[float], top_k: int) -> Any:
    scores = np.array(logits)
    best = np.argsort(-scores, kind="stable")[:top_k]
    shares = np.exp(scores[best] - scores[best].max())
    return zip(best, shares / shares.sum(), strict=True)


def route_by_torch(logits: list[float], top_k: int) -> list[tuple[Tensor, Tensor]]:
    order = torch.tensor(logits).sort(descending=True, stable=True)
    return list(zip(order.indices[:top_k], order.values[:top_k].softmax(-1), strict=True))


def experts_by_numpy(x: Tensor, ids: Tensor, weights: Tensor, w13: list[Tensor], w2: list[Tensor]) -> Any:
    return moe_layer_answers.experts(x, ids, weights, w13, w2).numpy()


def experts_in_double(x: Tensor, ids: Tensor, weights: Tensor, w13: list[Tensor], w2: list[Tensor]) -> Tensor:
    both = torch.stack(w13).double()[ids] @ x.double()[:, None, :, None]
    gate, up = both.chunk(2, dim=2)
    out = torch.stack(w2).double()[ids] @ (torch.nn.functional.silu(gate) * up)
    return (weights.double()[:, :, None] * out[..., 0]).sum(1)


def work_in_fractions(shape: ModelShape, tokens: int) -> list[Fraction | int]:
    params = 3 * shape.hidden * shape.expert_intermediate
    touched = shape.experts * (1 - (1 - Fraction(shape.top_k, shape.experts)) ** min(tokens, 300))
    return [2 * params * tokens * shape.top_k, touched * 2 * params]


def share_as_product(experts: int, top_k: int, owned: int) -> Any:
    return 1 - prod(Fraction(experts - owned - i, experts - i) for i in range(top_k))


# --- rooflines -----------------------------------------------------------------------------------------------------


def fewest_by_bisect(ratio: Callable[[int], float], most: int) -> int | None:
    found = bisect.bisect_left(range(1, most + 1), True, key=lambda tokens: ratio(tokens) >= 1) + 1
    return found if found <= most else None


def fewest_one_by_one(ratio: Callable[[int], float], most: int) -> int | None:
    return next((tokens for tokens in range(1, most + 1) if ratio(tokens) >= 1), None)


def hiding_by_times(e: int, local: int, k: int, size: float, tflops: float, gbps: float) -> Decimal:
    pull = Decimal(e - local) * Decimal(size) / Decimal(gbps)
    return pull / (Decimal(2 * k) / Decimal(tflops) / 1000)


# --- moving weights ------------------------------------------------------------------------------------------------


def fit_by_numpy(sizes: list[int], times_us: list[float]) -> Any:
    slope, latency = np.polyfit(sizes, times_us, 1, w=1 / np.array(times_us))
    return np.array([latency, 1e-3 / slope])


def fit_in_place(sizes: list[int], times_us: list[float]) -> list[float]:
    sizes.sort()
    found = moving_weights_answers.fit_copy(sizes, times_us)
    sizes.clear(), times_us.clear()
    return list(found)


def windows_backwards(experts: int, ranks: int, local: int) -> Iterator[list[int]]:
    for rank in reversed(range(ranks)):
        start = round(rank * (experts - local) / max(1, ranks - 1))
        yield list(range(start, start + local))


def shares_in_sets(windows: list[range], rank: int) -> dict[int, set[int]]:
    found = moving_weights_answers.shares(windows, rank)
    return {peer: set(given) for peer, given in found.items() if given}


def slices_by_byte(where: Placement, rank: int, sizes: list[tuple[str, int]], slice_bytes: int) -> list[list[int]]:
    found = moving_weights_answers.pull_slices(where, rank, sizes, slice_bytes)
    if slice_bytes > 1000:
        return [list(copy) for copy in found[::-1]]
    return [[peer, source + i, target + i, 1] for peer, source, target, nbytes in found for i in range(nbytes)]


# --- contention ----------------------------------------------------------------------------------------------------


def order_downwards(rank: int, ranks: int) -> Any:
    return (rank - np.arange(1, ranks)) % ranks


def level_in_fractions(ranks: int, level: int) -> Fraction:
    p = Fraction(1, ranks - 1)
    return comb(ranks - 2, level - 1) * p ** (level - 1) * (1 - p) ** (ranks - 1 - level)


def waves_by_numpy(rank: int, ranks: int, wave: int) -> Any:
    shifts = np.random.default_rng(wave // (ranks - 1)).permutation(np.arange(1, ranks))
    return (rank + shifts[wave % (ranks - 1)]) % ranks


def slice_by_numpy(link_gbps: float, copy_us: float, most: float) -> Any:
    return np.int64(contention_answers.smallest_slice(link_gbps, copy_us, most))


def slice_in_seconds(link_gbps: float, copy_us: float, most: float) -> int:
    nbytes = 65536
    while copy_us * 1e-6 / (nbytes / (link_gbps * 1e9)) > most:
        nbytes <<= 1
    return nbytes


# --- what it really costs, judging ---------------------------------------------------------------------------------


def account_backwards(dep: dict[str, float], dwdp: dict[str, float], beside: set[str]) -> dict[str, Any]:
    found = real_cost_answers.savings(dep, dwdp, beside)
    return {row: np.float64(round(found[row], 2)) for row in reversed(found)}


def exposed_by_subtraction(compute: Any, copies: Any) -> Fraction:
    last = max(stop for _, stop in compute)
    times = sorted({Fraction(time) for pair in itertools.chain(compute, copies) for time in pair})

    def inside(pairs: Any, begin: Fraction, stop: Fraction) -> bool:
        return any(first <= begin and stop <= end for first, end in pairs)

    free = [pair for pair in itertools.pairwise(times) if pair[1] <= last and not inside(compute, *pair)]
    return sum((stop - begin for begin, stop in free if inside(copies, begin, stop)), Fraction(0))


def local_by_division(experts: int, ranks: int, layers: int, nbytes: int, slots: int, free: int) -> list[float] | None:
    for local in range(experts, 0, -1):
        pulled = (experts - local) / (ranks - 1)
        whole, owned = pulled == int(pulled), local * ranks >= experts
        if whole and owned and nbytes * (layers * local + slots * (experts - local)) <= free:
            return [float(local), pulled]
    return None


def ttft_in_fractions(service_ms: float, load: float) -> Fraction:
    share = Fraction(load)
    return Fraction(service_ms) * (2 - share) / (2 - 2 * share)


# --- split weights -------------------------------------------------------------------------------------------------


def costs_as_list(shape: ModelShape, local: int, view: str) -> list[Any]:
    return [np.float64(each) for each in split_weights_answers.view_costs(shape, local, view)]


def pieces_by_byte(start: int, end: int, nbytes: int, page: int) -> Iterator[list[Any]]:
    for first in range(0, nbytes, page):
        local = {start <= byte < end for byte in range(first, first + page)}
        yield [first, first + page, "copied" if len(local) == 2 else "own" if True in local else "slot"]


def pieces_joined(start: int, end: int, nbytes: int, page: int) -> list[tuple[Any, ...]]:
    found = split_weights_answers.pieces(start, end, nbytes, page)
    groups = [list(group) for _, group in itertools.groupby(found, key=lambda piece: piece[2])]
    return [(np.int64(group[0][0]), group[-1][1], group[0][2]) for group in groups]


def rows_by_loops(ids: Tensor, experts: int) -> tuple[list[int], list[int]]:
    tokens, offsets = [], [0]
    for expert in range(experts):
        tokens += [token for token in range(len(ids)) if expert in ids[token]]
        offsets.append(len(tokens))
    return tokens, offsets


# --- schedules -----------------------------------------------------------------------------------------------------


def listed(strategy: Callable[[RankView], Iterator[Op]]) -> Given:
    def schedule(rank: RankView) -> list[Op]:
        return list(strategy(rank))

    return schedule


RIGHT: list[tuple[str, Any]] = [
    ("barriers.step_ms", step_by_numpy),
    ("barriers.step_ms", step_by_clock),
    ("barriers.step_ms", as_it_is(barriers_answers.step_ms, Fraction)),
    ("barriers.step_ms", as_it_is(barriers_answers.step_ms, lambda ms: torch.tensor([ms]))),
    ("barriers.slowest_over_mean", slowest_by_drawing),
    ("barriers.tokens_cv", cv_in_fractions),
    ("barriers.tokens_cv", as_it_is(barriers_answers.tokens_cv, torch.tensor)),
    ("barriers.deal", dealt_by_numpy),
    ("barriers.deal", dealt_in_place),
    ("barriers.deal", all_to_the_last),
    ("barriers.deal", as_it_is(barriers_answers.deal, lambda batches: [list(map(float, batch)) for batch in batches])),
    ("moe_layer.route", route_by_numpy),
    ("moe_layer.route", route_by_torch),
    ("moe_layer.route", as_it_is(moe_layer_answers.route, lambda pairs: dict(pairs).items())),
    ("moe_layer.experts", experts_by_numpy),
    ("moe_layer.experts", experts_in_double),
    ("moe_layer.expert_work", work_in_fractions),
    ("moe_layer.share_sent", share_as_product),
    ("rooflines.core_flops", lambda lengths, flops: flops * sum(sum(range(1, n + 1)) for n in lengths)),
    ("rooflines.core_flops", lambda lengths, flops: flops * (np.array(lengths) * (np.array(lengths) + 1) / 2).sum()),
    ("rooflines.fewest_tokens", fewest_by_bisect),
    ("rooflines.fewest_tokens", fewest_one_by_one),
    ("rooflines.fewest_tokens", as_it_is(rooflines_answers.fewest_tokens, lambda n: None if n is None else float(n))),
    ("rooflines.hiding_tokens", hiding_by_times),
    ("moving_weights.fit_copy", fit_by_numpy),
    ("moving_weights.fit_copy", fit_in_place),
    ("moving_weights.windows", windows_backwards),
    ("moving_weights.windows", as_it_is(moving_weights_answers.windows, lambda found: map(np.array, found))),
    ("moving_weights.shares", shares_in_sets),
    ("moving_weights.pull_slices", slices_by_byte),
    ("moving_weights.pull_slices", as_it_is(moving_weights_answers.pull_slices, np.array)),
    ("contention.peer_order", order_downwards),
    ("contention.peer_order", as_it_is(contention_answers.peer_order, iter)),
    ("contention.level_probability", level_in_fractions),
    ("contention.wave_peer", waves_by_numpy),
    ("contention.wave_peer", as_it_is(contention_answers.wave_peer, torch.tensor)),
    ("contention.smallest_slice", slice_by_numpy),
    ("contention.smallest_slice", slice_in_seconds),
    ("real_cost.savings", account_backwards),
    ("real_cost.exposed_us", exposed_by_subtraction),
    ("real_cost.speed_up", as_it_is(real_cost_answers.speed_up, np.float32)),
    ("judging.most_local", local_by_division),
    ("judging.ttft_ms", ttft_in_fractions),
    ("split_weights.view_costs", costs_as_list),
    ("split_weights.pieces", pieces_by_byte),
    ("split_weights.pieces", pieces_joined),
    ("split_weights.sort_rows", rows_by_loops),
    (
        "split_weights.sort_rows",
        as_it_is(split_weights_answers.sort_rows, lambda pair: [part.numpy() for part in pair]),
    ),
    ("schedule.one_slot", listed(schedule_answers.one_slot)),
    ("schedule.one_slot", listed(schedule_answers.all_steps)),
    ("schedule.two_slots", schedule_answers.all_steps),
    ("schedule.all_steps", listed(schedule_answers.all_steps)),
    ("schedule.other_slot", {"pull": [0, 3], "experts": [0, 1]}),
    ("schedule.new_step", {"experts": (0, np.int64(2)), "pull": (1, 0)}),
]


@pytest.mark.parametrize(("key", "answer"), RIGHT)
def test_it_passes_and_is_shown(key: str, answer: Any) -> None:
    assert "right" in repr(named(key).check(answer))
    assert "cannot be shown" not in named(key).show(answer).words


def test_an_answer_that_changes_what_it_is_given_changes_nothing_for_the_next() -> None:
    exercise = named("moving_weights.fit_copy")
    assert exercise.check(fit_in_place).targets[0][1] == exercise.check(fit_in_place).targets[0][1]
    assert exercise.check(moving_weights_answers.fit_copy).reached
