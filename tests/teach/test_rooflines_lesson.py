"""The lesson on rooflines: wrong answers and what catches them; answers and pictures against the package."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from typing import Any

import pytest
from course import named
from hypothesis import given
from hypothesis import strategies as st

from dwdp_lab.program.pull_plan import pull_of
from dwdp_lab.program.work import WorkModel
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.hardware import load_hardware
from dwdp_lab.simulate.roofline import crossover_tokens, hiding_tokens
from dwdp_lab.teach import rooflines_answers as answers
from dwdp_lab.teach.crossing import Ratio
from dwdp_lab.teach.failure import ExerciseFailed
from dwdp_lab.teach.layer_chart import layer_chart
from dwdp_lab.teach.lesson import lesson
from dwdp_lab.teach.rooflines import paper_roofline

Function = Callable[[int], float]


def full_square(lengths: list[int], per_pair: int) -> int:
    return per_pair * sum(n * n for n in lengths)


def without_itself(lengths: list[int], per_pair: int) -> int:
    return per_pair * sum(n * (n - 1) // 2 for n in lengths)


def one_long_request(lengths: list[int], per_pair: int) -> int:
    return answers.core_flops([sum(lengths)], per_pair)


def only_pairs(lengths: list[int], per_pair: int) -> int:
    return sum(n * (n + 1) // 2 for n in lengths) + 0 * per_pair


def doubled(ratio: Function, most: int) -> int | None:
    tokens = 1
    while ratio(tokens) < 1:
        tokens *= 2
        if tokens > most:
            return None
    return tokens


def beyond(ratio: Function, most: int) -> int | None:
    high = 1
    while ratio(high) < 1:
        high *= 2  # most need not be a power of two
    return next(n for n in range(1, min(high, most) + 1) if ratio(n) >= 1)


def above_one(ratio: Function, most: int) -> int | None:
    return next((n for n in range(1, most + 1) if ratio(n) > 1), None)


def the_best(ratio: Function, most: int) -> int | None:
    best = max(range(1, most + 1), key=ratio)
    return best if ratio(best) >= 1 else None


def never_none(ratio: Function, most: int) -> int:
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if ratio(middle) < 1 else (low, middle)
    return high


def the_last(ratio: Function, most: int) -> int | None:
    return next((n for n in range(most, 0, -1) if ratio(n) < 1), 0) + 1 if ratio(most) >= 1 else None


def all_experts(e: int, local: int, k: int, b: float, tf: float, link: float) -> float:
    return answers.hiding_tokens(e, 0, k, b, tf, link) * (local < e)


def one_flop(*case: Any) -> float:
    return 2 * answers.hiding_tokens(*case)


def ignores_local(e: int, local: int, k: int, b: float, tf: float, link: float) -> float:
    del local
    return answers.hiding_tokens(e, 0, k, b, tf, link)


def ignores_bytes(e: int, local: int, k: int, b: float, tf: float, link: float) -> float:
    return answers.hiding_tokens(e, local, k, 1.0, tf, link) + 0 * b


def ignores_top_k(e: int, local: int, k: int, b: float, tf: float, link: float) -> float:
    return answers.hiding_tokens(e, local, 1, b, tf, link) + 0 * k


def upside_down(e: int, local: int, k: int, b: float, tf: float, link: float) -> float:
    return answers.hiding_tokens(e, local, k, b, link, tf)


WRONG: list[tuple[str, Any, str, str]] = [
    ("rooflines.core_flops", full_square, "and what came before it", "([2], 1) gives 4"),
    ("rooflines.core_flops", without_itself, "a token sees itself", "([1], 1) gives 0"),
    ("rooflines.core_flops", one_long_request, "requests do not see each other", "([1, 1], 1) gives 3"),
    ("rooflines.core_flops", only_pairs, "every pair costs", "([1], 2) gives 1"),
    (
        "rooflines.fewest_tokens",
        doubled,
        "the first length with a ratio of at least 1",
        "3 tokens (most = 8): you give 4",
    ),
    ("rooflines.fewest_tokens", above_one, "the first length with a ratio of at least 1", "1 tokens (most = 8)"),
    ("rooflines.fewest_tokens", never_none, "there may be none", "stays below 1 (most = 1)"),
    ("rooflines.fewest_tokens", beyond, "there may be none", "2 tokens are not from 1 to most = 1"),
    ("rooflines.fewest_tokens", the_best, "the first length with a ratio of at least 1", "you give"),
    ("rooflines.hiding_tokens", ignores_local, "a rank that keeps everything pulls nothing", "(2, 2, 1"),
    ("rooflines.hiding_tokens", all_experts, "one missing expert, one visited", "but it is 500"),
    ("rooflines.hiding_tokens", one_flop, "one missing expert, one visited", "gives 1000"),
    ("rooflines.hiding_tokens", ignores_bytes, "more bytes to pull need more tokens", "at 2.0 bytes"),
    ("rooflines.hiding_tokens", ignores_top_k, "each token computes top_k experts", "2 experts per token"),
    (
        "rooflines.hiding_tokens",
        upside_down,
        "a faster GPU needs more tokens, a faster link fewer",
        "(2, 1, 1, 1, 2, 1)",
    ),
]


@pytest.mark.parametrize(("key", "answer", "violated", "words"), WRONG)
def test_a_wrong_answer_is_caught_by_its_property(key: str, answer: Any, violated: str, words: str) -> None:
    with pytest.raises(ExerciseFailed) as failed:
        named(key).check(answer)
    assert failed.value.violated == violated, failed.value.example
    assert re.search(re.escape(words), failed.value.example), failed.value.example
    assert named(key).show(answer).words


def test_a_search_that_never_ends_is_ended() -> None:
    def stuck(ratio: Function, most: int) -> int:
        while ratio(1) < 2:
            pass
        return most

    with pytest.raises(ExerciseFailed, match="asked 109 times, with most = 2"):
        named("rooflines.fewest_tokens").check(stuck)


def test_a_scan_is_correct_but_not_good() -> None:
    def scan(ratio: Function, most: int) -> int | None:
        return next((n for n in range(1, most + 1) if ratio(n) >= 1), None)

    passed = named("rooflines.fewest_tokens").check(scan)
    assert passed.reached == ()
    assert "not reached yet" in repr(passed)


@given(st.one_of(st.none(), st.integers(1, 5000)), st.integers(1, 5000))
def test_the_crossing_is_found_wherever_it_is(crossing: int | None, most: int) -> None:
    ratio = Ratio(crossing, most)
    wanted = crossing if crossing is not None and crossing <= most else None
    if crossing is not None and crossing > most:
        ratio = Ratio(None, most)
    assert answers.fewest_tokens(ratio, most) == wanted
    assert ratio.calls <= 2 * most.bit_length() + 2


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4))
def test_core_flops_are_what_the_simulator_counts(lengths: list[int]) -> None:
    scenario = Scenario.create(workload={"kind": "explicit", "lengths": [lengths, lengths]})
    works = WorkModel(scenario).attention(scenario.batches.by_rank[0][0], 1)
    counted = next(work.flops for work in works if work.unit == "attention")
    assert answers.core_flops(lengths, scenario.model.attention.core_flops_per_pair()) == counted


@pytest.mark.parametrize("local", [32, 64, 128])
@pytest.mark.parametrize("width", [256, 768])
def test_hiding_tokens_makes_both_times_equal_whatever_the_width(local: int, width: int) -> None:
    scenario = Scenario.create(
        model={"preset": "qwen3-30b-a3b", "expert_intermediate": width},
        group={"ranks": 4, "local_experts": local},
        workload={"kind": "explicit", "lengths": [[1024]] * 4},
    )
    h100 = load_hardware("h100")
    rate, link = h100.tflops["bf16"].value, h100.link_gbps.value
    tokens = answers.hiding_tokens(128, local, 8, 2.0, rate, link)
    flops = next(w.flops for w in WorkModel(scenario).experts(1024) if w.unit == "grouped_gemm")
    computing_s = flops / 1024 * tokens / (rate * 1e12)
    assert computing_s == pytest.approx(pull_of(scenario, 0).nbytes / (link * 1e9))


def test_the_chart_has_its_corners_at_the_crossovers() -> None:
    scenario = paper_roofline()
    chart = layer_chart(scenario)
    pull, dwdp, dep = (next(c for c in chart.curves if c.label.startswith(n)) for n in ("T_pull", "T_DWDP", "T_DEP"))
    hidden, even = hiding_tokens(scenario), crossover_tokens(scenario)
    assert hidden is not None
    assert even is not None
    place = {x: number for number, x in enumerate(dwdp.x)}
    assert all(y == pytest.approx(pull.y[0]) for x, y in zip(dwdp.x, dwdp.y, strict=True) if x < hidden)
    assert dep.y[place[even]] >= dwdp.y[place[even]]
    assert dep.y[place[even] - 1] < dwdp.y[place[even] - 1]
    assert f"{hidden:,}" in chart.words
    ElementTree.fromstring(chart.svg())


def test_a_revealed_number_has_no_exponent() -> None:
    revealed = lesson("rooflines", keep_progress=False).reveal("crossing", 16384)
    assert re.match(r"You guessed 16,384 tokens; it is \d\d,\d{3}: \d,\d{3} too high\.", revealed)
