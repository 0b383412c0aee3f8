"""Typical wrong answers: each is caught, by the property it violates."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from math import comb, exp, log, sqrt
from typing import Any

import pytest
from course import named
from torch import Tensor

from dwdp_lab.program.operation import Op
from dwdp_lab.program.rank_view import RankView
from dwdp_lab.scenario.model_shape import ModelShape
from dwdp_lab.teach import moe_layer_answers, races, schedule_answers
from dwdp_lab.teach.dealing import in_turn
from dwdp_lab.teach.failure import ExerciseFailed

# --- barriers ------------------------------------------------------------------------------------------------------


def max_of_sums(work_ms: list[list[float]]) -> float:
    return max(map(sum, zip(*work_ms, strict=True)))


def mean_rank(work_ms: list[list[float]]) -> float:
    return sum(sum(layer) / len(layer) for layer in work_ms)


def always_the_first(work_ms: list[list[float]]) -> float:
    return sum(layer[0] for layer in work_ms)


def one_deviation(cv: float, ranks: int) -> float:
    del ranks
    return 1 + cv


def asymptotic(cv: float, ranks: int) -> float:
    return 1 + cv * sqrt(2 * log(ranks))


def uniform(cv: float, ranks: int) -> float:
    return 1 + cv * sqrt(3) * (ranks - 1) / (ranks + 1)


def not_over_the_mean(ratio: float, requests: int) -> float:
    return (1 - ratio) / sqrt(12) / sqrt(requests)


def divided_by_n(ratio: float, requests: int) -> float:
    return (1 - ratio) / sqrt(3) / (1 + ratio) / requests


def ignores_requests(ratio: float, requests: int) -> float:
    del requests
    return (1 - ratio) / sqrt(3) / (1 + ratio)


def loses_the_rest(lengths: list[int], ranks: int) -> list[list[int]]:
    each = len(lengths) // ranks
    return [lengths[rank * each : (rank + 1) * each] for rank in range(ranks)]


def everything_everywhere(lengths: list[int], ranks: int) -> list[list[int]]:
    return [lengths] * ranks


def per_request(lengths: list[int], ranks: int) -> list[list[int]]:
    del ranks
    return [[length] for length in lengths]


# --- the MoE layer -------------------------------------------------------------------------------------------------


def not_normalised(logits: list[float], top_k: int) -> list[tuple[int, float]]:
    total = sum(map(exp, logits))
    best = sorted(range(len(logits)), key=lambda expert: -logits[expert])[:top_k]
    return [(expert, exp(logits[expert]) / total) for expert in best]


def overflows(logits: list[float], top_k: int) -> list[tuple[int, float]]:
    best = sorted(range(len(logits)), key=lambda expert: -logits[expert])[:top_k]
    total = sum(exp(logits[expert]) for expert in best)
    return [(expert, exp(logits[expert]) / total) for expert in best]


def higher_of_equals(logits: list[float], top_k: int) -> list[tuple[int, float]]:
    flipped = moe_layer_answers.route(logits[::-1], top_k)
    return [(len(logits) - 1 - expert, share) for expert, share in flipped]


def worst_first(logits: list[float], top_k: int) -> list[tuple[int, float]]:
    return moe_layer_answers.route(logits, top_k)[::-1]


def linear_weights(logits: list[float], top_k: int) -> list[tuple[int, float]]:
    chosen = [expert for expert, _ in moe_layer_answers.route(logits, top_k)]
    total = sum(logits[expert] for expert in chosen)
    return [(expert, logits[expert] / total) for expert in chosen]


def _experts(
    mlp: Callable[[Tensor, Tensor, Tensor], Tensor], weighted: bool = True, shift: int = 0, places: slice = slice(None)
) -> Callable[..., Tensor]:
    def experts(x: Tensor, ids: Tensor, weights: Tensor, w13: list[Tensor], w2: list[Tensor]) -> Tensor:
        y = x.new_zeros(x.shape)
        for token in range(len(x)):
            for place, expert in list(enumerate(ids[token].tolist()))[places]:
                expert = (expert + shift) % len(w13)
                out = mlp(x[token], w13[expert], w2[expert])
                y[token] += out * weights[token, place] if weighted else out
        return y

    return experts


def mlp(x: Tensor, w13: Tensor, w2: Tensor) -> Tensor:
    gate, up = (w13 @ x).chunk(2)
    return w2 @ (gate * gate.sigmoid() * up)


def swapped_mlp(x: Tensor, w13: Tensor, w2: Tensor) -> Tensor:
    up, gate = (w13 @ x).chunk(2)
    return w2 @ (gate * gate.sigmoid() * up)


def sigmoid_mlp(x: Tensor, w13: Tensor, w2: Tensor) -> Tensor:
    gate, up = (w13 @ x).chunk(2)
    return w2 @ (gate.sigmoid() * up)


def with_residual(x: Tensor, *others: Any) -> Tensor:
    y: Tensor = _experts(mlp)(x, *others)
    return x + y


def _work(flops: Callable[[ModelShape, int], float], touched: Callable[[ModelShape, int], float]) -> Callable[..., Any]:
    def expert_work(shape: ModelShape, tokens: int) -> tuple[float, float]:
        return flops(shape, tokens), touched(shape, tokens) * shape.expert_params * 2

    return expert_work


def right_flops(shape: ModelShape, tokens: int) -> float:
    return 2 * shape.expert_params * tokens * shape.top_k


def right_touched(shape: ModelShape, tokens: int) -> float:
    return shape.experts * (1 - (1 - shape.top_k / shape.experts) ** tokens)


def k_times_the_share(experts: int, top_k: int, owned: int) -> float:
    return top_k * owned / experts


def independent_choices(experts: int, top_k: int, owned: int) -> float:
    return 1 - (1 - owned / experts) ** top_k


def all_of_them(experts: int, top_k: int, owned: int) -> float:
    return comb(owned, top_k) / comb(experts, top_k)


# --- schedules -----------------------------------------------------------------------------------------------------


def _changed(strategy: Callable[[RankView], Iterator[Op]], change: Callable[[Op], Op | None]) -> Callable[..., Any]:
    def changed(rank: RankView) -> Iterator[Op]:
        return (new for op in strategy(rank) if (new := change(op)) is not None)

    return changed


def experts_wait_for_nothing(op: Op) -> Op:
    return op._replace(waits=()) if op.kind == "experts" else op


def pulls_wait_for_nothing(op: Op) -> Op:
    return op._replace(waits=()) if op.kind == "pull" else op


def no_route(op: Op) -> Op | None:
    return None if op.kind == "route" else op


def first_pull_waits_too(op: Op) -> Op:
    return op._replace(waits=("consumed",)) if op.kind == "pull" else op


def text_for_a_tuple(op: Op) -> Op:
    return op._replace(waits="pulled") if op.kind == "experts" else op  # type: ignore[arg-type]


def a_third_slot(rank: RankView) -> Iterator[Op]:
    for layer in rank.layers:
        yield rank.pull(0, layer, layer, (), f"pulled {layer}")
    for layer in rank.layers:
        yield rank.attention(0, layer)
        yield rank.route(0, layer)
        yield rank.experts(0, layer, (f"pulled {layer}",), None, layer)


def all_gathers(rank: RankView) -> Iterator[Op]:
    for step in rank.busy_steps:
        for layer in rank.layers:
            yield rank.attention(step, layer)
            yield rank.route(step, layer)
            yield rank.gather_weights(step, layer, 0, (), "pulled")
            yield rank.experts(step, layer, ("pulled",), None, 0)


def yields_text(rank: RankView) -> Iterator[str]:
    for layer in rank.layers:
        yield f"pull {layer}"


WRONG: list[tuple[str, Any, str, str]] = [
    # exercise, answer, property, words of the counter-example
    ("barriers.step_ms", max_of_sums, "every layer has a slowest rank of its own", "[[1, 2], [2, 1]]"),
    ("barriers.step_ms", mean_rank, "a layer ends with its last rank", "[[1, 2]]"),
    ("barriers.step_ms", always_the_first, "a layer ends with its last rank", "[[1, 2]]"),
    ("barriers.slowest_over_mean", one_deviation, "a rank alone is the mean", "(0.2, 1)"),
    ("barriers.slowest_over_mean", asymptotic, "the expected maximum, within 1 %", "(0.1, 2)"),
    ("barriers.slowest_over_mean", uniform, "the expected maximum, within 1 %", "but it is"),
    ("barriers.slowest_over_mean", lambda cv, ranks: 1 + cv * (ranks > 1), "more ranks wait longer", "N = 3"),
    ("barriers.tokens_cv", not_over_the_mean, "one request: deviation over mean", "(0.5, 1)"),
    ("barriers.tokens_cv", divided_by_n, "several requests even out", "(0.5, 2)"),
    ("barriers.tokens_cv", ignores_requests, "several requests even out", "(0.5, 2)"),
    ("barriers.tokens_cv", lambda ratio, _: ratio, "equal lengths have no deviation", "(1, 1)"),
    ("barriers.deal", loses_the_rest, "every request on one rank", "[5] missing"),
    ("barriers.deal", everything_everywhere, "every request on one rank", "[5] too many"),
    ("barriers.deal", per_request, "every request on one rank", "for 2 ranks"),
    ("moe_layer.route", not_normalised, "the weights sum to 1", "sum to"),
    ("moe_layer.route", overflows, "large logits are no problem", "OverflowError"),
    ("moe_layer.route", higher_of_equals, "of equal logits the lower expert", "[1.0, 1.0]"),
    ("moe_layer.route", worst_first, "the largest logits are chosen, best first", "[1, 2]"),
    ("moe_layer.route", linear_weights, "the weights are a softmax", "[1.0, 3.0, 2.0]"),
    ("moe_layer.route", lambda _, k: list(range(k)), "the largest logits are chosen, best first", "no list"),
    ("moe_layer.experts", _experts(swapped_mlp), "one expert is a SwiGLU MLP", "Gate is the first half"),
    ("moe_layer.experts", with_residual, "one expert is a SwiGLU MLP", "x itself is in the output"),
    ("moe_layer.experts", _experts(sigmoid_mlp), "one expert is a SwiGLU MLP", "token 0"),
    ("moe_layer.experts", _experts(mlp, shift=1), "one expert is a SwiGLU MLP", "token 0"),
    ("moe_layer.experts", _experts(mlp, weighted=False), "each expert counts by its weight", "0.5"),
    ("moe_layer.experts", _experts(mlp, places=slice(1)), "the outputs of all k experts are summed", "[0, 3]"),
    ("moe_layer.experts", lambda x, *_: x[0], "one expert is a SwiGLU MLP", "shape"),
    ("moe_layer.expert_work", _work(lambda s, t: right_flops(s, t) / 2, right_touched), "FLOPs of one token", "0.5"),
    (
        "moe_layer.expert_work",
        _work(lambda s, t: right_flops(s, t) * 2 / 3, right_touched),
        "FLOPs of one token",
        "0.667",
    ),
    (
        "moe_layer.expert_work",
        _work(lambda s, _: right_flops(s, 1), right_touched),
        "FLOPs grow with the tokens",
        "0.5",
    ),
    ("moe_layer.expert_work", _work(right_flops, lambda s, _: s.experts), "one token reads k experts", "4 times"),
    ("moe_layer.expert_work", _work(right_flops, lambda s, t: t * s.top_k), "an expert is read once", "tiny, 2"),
    ("moe_layer.share_sent", k_times_the_share, "a token that needs every expert goes everywhere", "(8, 8, 2)"),
    ("moe_layer.share_sent", independent_choices, "a token that needs every expert goes everywhere", "(2, 2, 1)"),
    (
        "moe_layer.share_sent",
        lambda experts, k, owned: min(1.0, k * owned / experts) if k > 1 else owned / experts,
        "several experts on one peer are one trip",
        "(4, 2, 2)",
    ),
    ("moe_layer.share_sent", all_of_them, "a token that needs every expert goes everywhere", "(2, 2, 1)"),
    ("schedule.one_slot", yields_text, "it gives operations", "'pull 0'"),
    (
        "schedule.one_slot",
        _changed(schedule_answers.one_slot, text_for_a_tuple),
        "it gives operations",
        "tuple of names, ('pulled',)",
    ),
    ("schedule.one_slot", _changed(schedule_answers.one_slot, no_route), "every layer is computed once", "route"),
    ("schedule.one_slot", all_gathers, "experts read pulled weights", "meeting"),
    (
        "schedule.one_slot",
        _changed(schedule_answers.one_slot, first_pull_waits_too),
        "events are signalled before they are waited for",
        "'consumed'",
    ),
    (
        "schedule.one_slot",
        _changed(schedule_answers.one_slot, experts_wait_for_nothing),
        "read after write",
        "1 layer,",
    ),
    ("schedule.one_slot", _changed(schedule_answers.one_slot, pulls_wait_for_nothing), "write after read", "2 layers,"),
    ("schedule.two_slots", a_third_slot, "no more slots than there are", "slot 1"),
    ("schedule.two_slots", races.other_slot, "no more slots than there are", "1 slot"),
    (
        "schedule.two_slots",
        _changed(schedule_answers.two_slots, experts_wait_for_nothing),
        "read after write",
        "1 layer",
    ),
    (
        "schedule.two_slots",
        _changed(schedule_answers.two_slots, pulls_wait_for_nothing),
        "write after read",
        "2 layers",
    ),
    ("schedule.all_steps", races.too_early, "every layer is computed once", "2 steps"),
    ("schedule.all_steps", _changed(schedule_answers.all_steps, pulls_wait_for_nothing), "write after read", "slot 0"),
    ("schedule.other_slot", (0, 3), "it names a pull and experts", "not of the form"),
    ("schedule.other_slot", {"pull": (0, 9), "experts": (0, 0)}, "it names a pull and experts", "no pull with"),
    ("schedule.other_slot", {"pull": (0, 3), "experts": (0, 0)}, "both use one slot", "slot 1"),
    (
        "schedule.other_slot",
        {"pull": (0, 1), "experts": (0, 1)},
        "the experts read what was there before",
        "come after",
    ),
    (
        "schedule.too_early",
        {"pull": (0, 2), "experts": (0, 2)},
        "the experts read what was there before",
        "come after",
    ),
    (
        "schedule.new_step",
        {"pull": (0, 2), "experts": (0, 0)},
        "nothing makes the pull wait for the experts",
        "'consumed 0'",
    ),
    (
        "schedule.last_layer",
        {"pull": (0, 3), "experts": (0, 1)},
        "nothing makes the pull wait for the experts",
        "waits for",
    ),
]


@pytest.mark.parametrize(("key", "answer", "violated", "words"), WRONG)
def test_a_wrong_answer_is_caught_by_its_property(key: str, answer: Any, violated: str, words: str) -> None:
    with pytest.raises(ExerciseFailed) as failed:
        named(key).check(answer)
    assert failed.value.violated == violated, failed.value.example
    assert re.search(re.escape(words), failed.value.example), failed.value.example
    assert named(key).show(answer).words


def test_correct_and_good_are_told_apart() -> None:
    assert len(named("barriers.deal").check(in_turn).reached) == 1
    assert named("schedule.all_steps").check(schedule_answers.two_slots).reached == ()

    def late(rank: RankView) -> Iterator[Op]:
        """One slot, and the pull only when the router has run."""
        for op in list(schedule_answers.one_slot(rank)):
            if op.kind == "pull":
                pull = op
            elif op.kind == "route":
                yield op._replace(signals="routed")
                yield pull._replace(waits=(*pull.waits, "routed"))
            else:
                yield op

    passed = named("schedule.one_slot").check(late)
    assert passed.reached == ()
    assert "not reached yet" in repr(passed)


@pytest.mark.parametrize("bug", [races.other_slot, races.too_early, races.new_step, races.last_layer])
def test_every_race_is_in_the_schedule_as_it_is_shown(bug: Callable[[RankView], Iterator[Op]]) -> None:
    shown = named("schedule.all_steps").show(bug)
    assert "may overwrite" in shown.words
    assert shown.picture is not None
