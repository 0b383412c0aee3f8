"""Routing one token: the cases on which a router is tried, and the exercise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dwdp_lab.teach import moe_layer_answers as answers
from dwdp_lab.teach.attempt import attempt, call_text, shown
from dwdp_lab.teach.exercise import Exercise, Property
from dwdp_lab.teach.moe_cases import right_route, same
from dwdp_lab.teach.shown import Shown, table

PLAIN = ([1.0, 3.0, 2.0], 2)
ROUTED: tuple[tuple[list[float], int], ...] = (([0.5], 1), ([1.0, 2.0], 1), PLAIN, ([0.3, -1.0, 0.2, 1.5, -0.4], 3))
TIED: tuple[tuple[list[float], int], ...] = (([1.0, 1.0], 1), ([0.0, 2.0, 2.0, 2.0], 2))
LARGE: tuple[tuple[list[float], int], ...] = (([1000.0, 999.0], 2), ([-1000.0, -1001.0, -1002.0], 2))


def _pairs(value: Any) -> list[tuple[int, float]] | None:
    try:
        return [(int(expert), float(share)) for expert, share in value]
    except (TypeError, ValueError):
        return None


def _chosen(cases: tuple[tuple[list[float], int], ...]) -> Callable[[Any], str | None]:
    def violation(answer: Any) -> str | None:
        for case in cases:
            called, wanted = attempt(answer, case), right_route(*case)
            pairs = _pairs(called.value)
            if called.error:
                return f"{call_text('route', case)} {called.error}"
            if pairs is None:
                return f"{call_text('route', case)} gives {called}, which is no list of (expert, weight)."
            if [expert for expert, _ in pairs] != [expert for expert, _ in wanted]:
                return (
                    f"{call_text('route', case)} chooses {[expert for expert, _ in pairs]}, "
                    f"but it is {[expert for expert, _ in wanted]}."
                )
        return None

    return violation


def _weighted(cases: tuple[tuple[list[float], int], ...]) -> Callable[[Any], str | None]:
    def violation(answer: Any) -> str | None:
        for case in cases:
            called, wanted = attempt(answer, case), right_route(*case)
            if called.error:
                return f"{call_text('route', case)} {called.error}"
            got = [round(share, 4) for _, share in _pairs(called.value) or []]
            right = [round(share, 4) for _, share in wanted]
            if len(got) != len(right) or not all(abs(a - b) < 2e-4 for a, b in zip(got, right, strict=True)):
                return f"{call_text('route', case)} gives the weights {got}, but they are {right}."
        return None

    return violation


def _sums_to_one(answer: Any) -> str | None:
    for case in ROUTED:
        total = sum(share for _, share in _pairs(attempt(answer, case).value) or [])
        if not same(total, 1.0):
            return f"{call_text('route', case)}: the weights sum to {total:.4f}, but only the chosen experts count."
    return None


def _show_route(answer: Any) -> Shown:
    rows = []
    for case in (*ROUTED, *TIED, *LARGE):
        called = attempt(answer, case)
        pairs = None if called.error else _pairs(called.value)
        cell = str(called) if pairs is None else "  ".join(f"{expert}: {share:.3f}" for expert, share in pairs)
        rows.append((f"{shown(case[0])}, {case[1]}", cell))
    return Shown(table(("logits, top_k", "your route, as expert: weight"), rows))


ROUTE = Exercise(
    key="moe_layer.route",
    number="2.1",
    title="route one token",
    difficulty=1,
    minutes=10,
    name="route",
    spec="""\
Write `route(logits, top_k)` for one token: a list of `(expert, weight)`, the best expert first. The `top_k` largest
logits are chosen; of equal ones the lower expert. The weights are the softmax over the chosen experts, so they sum to 1
(as in Qwen3 and Mixtral). Plain Python will do.""",
    stub='''\
def route(logits: list[float], top_k: int) -> list[tuple[int, float]]:
    """(expert, weight) of each chosen expert, best first."""''',
    hints=(
        "sorted(range(len(logits)), key=...) sorts the experts. Python's sort keeps equal ones in their order.",
        "Softmax of the chosen: exp(logit) / sum of exp(logit) over the chosen only.",
        "exp(1000) overflows. Subtract the largest logit first: the ratios stay what they were.",
    ),
    reference=answers.route,
    view=_show_route,
    example=lambda: PLAIN,
    properties=(
        Property("the largest logits are chosen, best first", _chosen(ROUTED)),
        Property("of equal logits the lower expert", _chosen(TIED)),
        Property("the weights sum to 1", _sums_to_one),
        Property("the weights are a softmax", _weighted(ROUTED)),
        Property("large logits are no problem", _weighted(LARGE), raising=True),
    ),
)
