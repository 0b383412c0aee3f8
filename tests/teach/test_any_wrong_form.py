"""Whatever an answer gives, an exercise says what is wrong with it in its own words: never by a traceback."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np
import pytest
import torch
from course import EXERCISES, catches, named, written

from dwdp_lab.teach.exercise import Exercise
from dwdp_lab.teach.failure import ExerciseFailed

FUNCTIONS = [exercise for exercise in EXERCISES if exercise.example is not None]
SCHEDULES = [exercise for exercise in EXERCISES if "Iterator[Op]" in exercise.stub]
each_function = pytest.mark.parametrize("exercise", FUNCTIONS, ids=lambda exercise: exercise.key)


def breaks_midway(*_: Any) -> Iterator[int]:
    yield 1
    raise KeyError("midway")


class Strange:
    """Something that nobody expects."""


FORMS: dict[str, Any] = {
    "nan": math.nan,
    "infinity": math.inf,
    "a huge int": 10**400,
    "a complex number": 1j,
    "text": "12",
    "true": True,
    "an empty list": [],
    "lists of lists of lists": [[[1]], [[2]]],
    "pairs of nan": [(math.nan, math.nan)],
    "a pair of nan": (math.nan, math.nan),
    "three": (1, 2, 3),
    "an empty dict": {},
    "a dict of nothing": {0: None},
    "a dict of text": {"a": "b"},
    "a set": {1, 2},
    "an array of one": np.array([1.5]),
    "an array": np.zeros((2, 2)),
    "a tensor": torch.zeros(2, 2),
    "a type": Strange,
    "an object": Strange(),
}


@each_function
@pytest.mark.parametrize("form", FORMS)
def test_a_wrong_form_is_refused_in_words(exercise: Exercise, form: str) -> None:
    def answer(*_: Any) -> Any:
        return FORMS[form]

    with pytest.raises(ExerciseFailed) as failed:
        exercise.check(answer)
    assert failed.value.example
    assert "cannot be used" not in failed.value.example
    assert exercise.show(answer).words


@each_function
def test_what_is_right_once_and_none_then_is_refused_in_words(exercise: Exercise) -> None:
    """As where the learner has forgotten a branch: right for the first call, nothing after that."""
    assert exercise.example is not None
    first = [repr(argument) for argument in exercise.example()]

    def answer(*arguments: Any) -> Any:
        return exercise.reference(*arguments) if [repr(each) for each in arguments] == first else None  # type: ignore[operator]

    if exercise.key == "real_cost.speed_up":
        pytest.skip("its argument does not say which it is")
    with pytest.raises(ExerciseFailed) as failed:
        exercise.check(answer)
    assert "None" in failed.value.example
    assert exercise.show(answer).words


@each_function
def test_wrong_numbers_of_parameters_are_told_by_it_runs(exercise: Exercise) -> None:
    for answer in (lambda: 1, lambda *, only_by_name: only_by_name):
        with pytest.raises(ExerciseFailed, match="positional argument") as failed:
            exercise.check(answer)
        assert failed.value.violated == "it runs"
        assert exercise.show(answer).words


@each_function
def test_a_generator_that_breaks_or_never_ends_is_told_by_it_runs(exercise: Exercise) -> None:
    for answer, words in ((breaks_midway, "KeyError"), (lambda *_: count(), "does it ever end")):
        with pytest.raises(ExerciseFailed, match=words) as failed:
            exercise.check(answer)
        assert failed.value.violated == "it runs"
        assert exercise.show(answer).words


@each_function
def test_endless_recursion_is_told_by_it_runs(exercise: Exercise) -> None:
    def answer(*arguments: Any) -> Any:
        return answer(*arguments)

    with pytest.raises(ExerciseFailed, match="RecursionError") as failed:
        exercise.check(answer)
    assert failed.value.violated == "it runs"
    assert exercise.show(answer).words


RAISES_LATER: list[tuple[str, str, str]] = [
    # exercise, code that runs for the first call, words of the counter-example
    ("barriers.step_ms", "lambda w: sum(w[i][i] for i in range(len(w)))", "IndexError"),
    ("barriers.step_ms", "lambda w: sum(max(w[i][r] for i in range(len(w))) for r in range(len(w)))", "IndexError"),
    (
        "real_cost.savings",
        "lambda p, q, b: {r: 100 * (p[r] - q[r]) / p[r] for r in p if r != 'iteration'}",
        "Zero",
    ),
    ("barriers.slowest_over_mean", "lambda cv, n: 1 + cv / (n - 2) if n not in (1, 4) else 1", "ZeroDivisionError"),
    ("moving_weights.windows", "lambda e, n, l: [range(0, l // (n % 3))] * n", "ZeroDivisionError"),
]


@pytest.mark.parametrize(("key", "code", "words"), RAISES_LATER)
def test_what_raises_in_a_later_case_does_not_run(key: str, code: str, words: str) -> None:
    exercise = named(key)
    with pytest.raises(ExerciseFailed) as failed:
        exercise.check(written(exercise, f"{exercise.name} = {code}"))
    assert words in failed.value.example
    assert failed.value.violated == "it runs"


def test_raising_keeps_its_own_property_where_that_is_what_is_looked_for() -> None:
    overflows = "import math\ndef route(x, k):\n    b = sorted(range(len(x)), key=lambda e: -x[e])[:k]\n"
    overflows += "    return [(e, math.exp(x[e]) / sum(math.exp(x[o]) for o in b)) for e in b]"
    catches("moe_layer.route", written(named("moe_layer.route"), overflows), "large logits are no problem", "Overflow")


def test_what_raises_on_a_targets_larger_case_is_told_in_words() -> None:
    code = "def fewest_tokens(ratio, most):\n    if most > 5000:\n        raise MemoryError('too many')\n"
    code += "    return next((n for n in range(1, most + 1) if ratio(n) >= 1), None)"
    exercise = named("rooflines.fewest_tokens")
    linear = written(exercise, code)
    with pytest.raises(ExerciseFailed, match=r"it runs\..* for 'calls to find .* raises MemoryError: too many"):
        exercise.check(linear)


@pytest.mark.parametrize("exercise", SCHEDULES, ids=lambda exercise: exercise.key)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"waits": None}, "`waits` is a tuple of names"),
        ({"waits": ["pulled"]}, "`waits` is a tuple of names"),
        ({"waits": (0,)}, "`waits` is a tuple of names"),
        ({"signals": ("pulled",)}, "`signals` is one name or None"),
        ({"signals": ["pulled"]}, "`signals` is one name or None"),
        ({"slot": "0"}, "slot"),
        ({"slot": 0.5}, "slot"),
        ({"layer": "0"}, "layer"),
        ({"step": None}, "step"),
    ],
)
def test_an_operation_of_a_wrong_form_is_told_in_words(exercise: Exercise, change: dict[str, Any], words: str) -> None:
    def answer(rank: Any) -> Any:
        return [op._replace(**change) if op.kind == "pull" else op for op in exercise.reference(rank)]  # type: ignore[operator]

    with pytest.raises(ExerciseFailed) as failed:
        exercise.check(answer)
    assert words in failed.value.example
    assert "cannot be used" not in failed.value.example
    assert exercise.show(answer).words


@pytest.mark.parametrize("exercise", SCHEDULES, ids=lambda exercise: exercise.key)
def test_a_schedule_without_an_end_is_told_in_words(exercise: Exercise) -> None:
    def answer(rank: Any) -> Any:
        while True:
            yield rank.attention(0, 0)

    with pytest.raises(ExerciseFailed, match="does it ever end"):
        exercise.check(answer)
    assert "does it ever end" in exercise.show(answer).words


def test_a_kernel_without_a_source_is_told_in_words() -> None:
    exercise = named("split_weights.table_gemm")
    plain = exercise.stub.replace("@triton.jit\n", "").replace(": tl.constexpr", "")
    names: dict[str, Any] = {}
    exec(plain, names)
    catches(exercise.key, names["table_gemm"], "it is a kernel of this form", "write it in a cell of this notebook")
