"""The lesson on judging: wrong answers and what catches them; answers against the package and a simulated queue."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest
from course import named
from hypothesis import given
from hypothesis import strategies as st

from dwdp_lab.program.memory import ledger
from dwdp_lab.program.placement import Placement
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.predict import predict
from dwdp_lab.teach import judging_answers as answers
from dwdp_lab.teach.customers import CHOICES, CUSTOMERS, comparison, customer, facts, judged
from dwdp_lab.teach.failure import ExerciseFailed
from dwdp_lab.teach.prediction_tables import groups_table, strategies_table
from dwdp_lab.teach.redundancy import Group, largest, splits

RIGHT = {"law firm": "dwdp", "help desk": "replicated", "chat": "dep"}


def without_slots(e: int, n: int, layers: int, size: int, slots: int, free: int) -> tuple[int, int] | None:
    return answers.most_local(e, n, layers, size, 0 * slots, free)


def any_local(e: int, n: int, layers: int, size: int, slots: int, free: int) -> tuple[int, int] | None:
    local = min(e, (free // size - slots * e) // (layers - slots))
    return (local, (e - local) // (n - 1)) if n * local >= e else None


def fewest(e: int, n: int, layers: int, size: int, slots: int, free: int) -> tuple[int, int] | None:
    found = splits(Group(e, n, layers, size, slots, free))
    return found[-1] if found and answers.most_local(e, n, layers, size, slots, free) else None


def from_all_ranks(e: int, n: int, layers: int, size: int, slots: int, free: int) -> tuple[int, int]:
    return e // n, e // n + 0 * (layers + size + slots + free)


def without_owner(e: int, n: int, layers: int, size: int, slots: int, free: int) -> tuple[int, int] | None:
    for pulled in range(e):
        local = e - (n - 1) * pulled
        if local > 0 and (layers * local + slots * (e - local)) * size <= free:
            return local, pulled
    return None


def exponential(service_ms: float, load: float) -> float:
    return service_ms / (1 - load)


def only_waiting(service_ms: float, load: float) -> float:
    return answers.ttft_ms(service_ms, load) - service_ms


def linear(service_ms: float, load: float) -> float:
    return service_ms * (1 + load)


def unscaled(service_ms: float, load: float) -> float:
    return service_ms + 10 * load / (2 * (1 - load))


WRONG: list[tuple[str, Any, str, str]] = [
    ("judging.most_local", without_slots, "local experts and slots fit into the memory", "slots of"),
    ("judging.most_local", any_local, "every peer gives P, and L + (N - 1) P are all experts", "not 8 experts"),
    ("judging.most_local", fewest, "no larger L would fit, and None only if none does", "but L ="),
    ("judging.most_local", from_all_ranks, "every peer gives P, and L + (N - 1) P are all experts", "not 8 experts"),
    ("judging.most_local", without_owner, "every expert has an owner", "hold less than"),
    ("judging.most_local", lambda *_: 7, "every peer gives P, and L + (N - 1) P are all experts", "a pair (L, P)"),
    ("judging.ttft_ms", only_waiting, "an idle server: the service alone", "(10, 0) gives 0"),
    ("judging.ttft_ms", exponential, "half busy: half a service of waiting", "gives 20, but it is 15"),
    ("judging.ttft_ms", linear, "a busy server has a long queue", "(10, 0.8)"),
    ("judging.ttft_ms", unscaled, "twice the service, twice the time", "(20, 0.5)"),
    ("judging.decisions", RIGHT | {"law firm": "replicated"}, "what is chosen fits into memory", "law firm"),
    (
        "judging.decisions",
        RIGHT | {"help desk": "dwdp"},
        "nothing that fits is more than 3 % faster",
        "help desk: with dwdp",
    ),
    ("judging.decisions", RIGHT | {"chat": "dwdp"}, "nothing that fits is more than 3 % faster", "exposed copy"),
    ("judging.decisions", dict.fromkeys(RIGHT, "dep"), "nothing that fits is more than 3 % faster", "law firm"),
    ("judging.decisions", {"law firm": "dwdp"}, "a strategy for each customer", "not of the form"),
    ("judging.decisions", RIGHT | {"chat": "DEP"}, "a strategy for each customer", "not one of replicated, dep, dwdp"),
]


@pytest.mark.parametrize(("key", "answer", "violated", "words"), WRONG)
def test_a_wrong_answer_is_caught_by_its_property(key: str, answer: Any, violated: str, words: str) -> None:
    with pytest.raises(ExerciseFailed) as failed:
        named(key).check(answer)
    assert failed.value.violated == violated, failed.value.example
    assert re.search(re.escape(words), failed.value.example), failed.value.example
    assert named(key).show(answer).words


def test_a_rough_formula_is_correct_but_not_good() -> None:
    passed = named("judging.ttft_ms").check(lambda service, load: 1.02 * answers.ttft_ms(service, load))
    assert passed.reached == ()


@given(st.integers(2, 12), st.integers(2, 5), st.integers(1, 6), st.integers(1, 3), st.integers(0, 80))
def test_the_answer_is_the_largest_of_all_splits(e: int, n: int, layers: int, slots: int, free: int) -> None:
    group = Group(e, n, layers, 1, slots, free)
    assert answers.most_local(*group) == largest(group)


@given(st.integers(2, 5), st.integers(2, 64))
def test_a_split_is_a_placement_in_which_every_peer_gives_p(ranks: int, experts: int) -> None:
    for local, pulled in splits(Group(experts, ranks, 1, 1, 1, 0)):
        where = Placement(experts, ranks, local)
        assert {len(share) for rank in range(ranks) for _, share in where.pulled(rank)} <= {pulled}


def test_experts_and_slots_are_the_ledgers() -> None:
    scenario = Scenario.create(
        model={"preset": "deepseek-r1", "expert_dtype": "nvfp4"}, group={"ranks": 4, "local_experts": 76}
    )
    held, shape = ledger(scenario, "dwdp"), scenario.model
    group = Group(256, 4, shape.moe_layers, shape.expert_bytes, 2, 0)
    assert group.needs(76) == held.experts + held.staging


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_a_simulated_queue_takes_as_long(load: float) -> None:
    draw, now, free_at, total, count = random.Random(7), 0.0, 0.0, 0.0, 200_000
    for _ in range(count):
        now += draw.expovariate(load)
        free_at = max(now, free_at) + 1.0
        total += free_at - now
    assert total / count == pytest.approx(answers.ttft_ms(1.0, load), rel=0.03)


def test_the_customers_differ_in_what_is_best() -> None:
    best = {}
    for name in CUSTOMERS:
        fitting = {choice: judged(name, choice).tokens_per_s for choice in CHOICES if judged(name, choice).fits}
        best[name] = max(fitting, key=lambda choice: fitting[choice])
        runner_up = sorted(fitting.values())[-2]
        assert fitting[best[name]] > 1.05 * runner_up  # clear, whatever the last digits
    assert best == RIGHT
    assert {customer(name).hardware for name in CUSTOMERS} == {"gb200", "h100", "h200"}


def test_the_tables_have_a_row_for_each() -> None:
    assert all(name in facts() for name in CUSTOMERS)
    assert len(comparison().splitlines()) == 1 + len(CUSTOMERS) * len(CHOICES)
    assert "(" in comparison()  # something does not fit
    prediction = predict(Scenario.create(workload={"steps": 1}), sizes=[2, 3])
    assert len(strategies_table(prediction).splitlines()) == 5
    assert [line.split()[2] for line in groups_table(prediction).splitlines()[1:]] == ["2", "3"]
