"""Every exercise of the course: its stub fails as meant, its solution passes, help is there, the notebook agrees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from course import EXERCISES, PREDICTIONS, named, written

from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.teach.exercise import Exercise
from dwdp_lab.teach.failure import ExerciseFailed
from dwdp_lab.teach.lesson import LESSONS, lesson
from dwdp_lab.teach.prediction import Prediction, Revealed

SOLUTIONS = Path(__file__).parents[2] / "notebooks" / "solutions"
each_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.key)

STUB_FAILS_WITH = {
    "schedule.one_slot": "experts read pulled weights",
    "schedule.two_slots": "events are signalled before they are waited for",
    "schedule.all_steps": "it gives operations",
}


def test_there_are_enough_of_them() -> None:
    assert len(EXERCISES) >= 10
    assert all(len(lesson(name, keep_progress=False).exercises) >= 3 for name in LESSONS)
    assert len({exercise.key for exercise in EXERCISES}) == len(EXERCISES)


@each_exercise
def test_the_stub_fails_with_the_intended_message(exercise: Exercise) -> None:
    with pytest.raises(ExerciseFailed) as failed:
        exercise.check(written(exercise, exercise.stub))
    assert failed.value.violated == STUB_FAILS_WITH.get(exercise.key, "something is written")
    assert f"Exercise {exercise.number}" in str(failed.value)
    assert failed.value.example


@each_exercise
def test_what_is_still_three_dots_fails(exercise: Exercise) -> None:
    with pytest.raises(ExerciseFailed, match="something is written"):
        exercise.check(...)
    assert "nothing to show" in exercise.show(...).words


@each_exercise
def test_the_solution_passes_and_reaches_every_target(exercise: Exercise) -> None:
    passed = exercise.check(written(exercise, exercise.solution_code))
    assert passed.reached == tuple(target.name for target in exercise.targets)
    assert "right" in repr(passed)


@each_exercise
def test_show_shows_right_and_unfinished_answers(exercise: Exercise) -> None:
    assert exercise.show(written(exercise, exercise.solution_code)).words
    assert exercise.show(written(exercise, exercise.stub)).words


@each_exercise
def test_show_shows_an_answer_that_raises(exercise: Exercise) -> None:
    def answer(*_: object) -> None:
        raise ZeroDivisionError("mine")

    shown = exercise.show(answer).words
    assert "ZeroDivisionError" in shown or "not of the form" in shown
    with pytest.raises(ExerciseFailed, match=r"mine|not of the form"):
        exercise.check(answer)


@each_exercise
def test_there_are_three_hints_and_a_solution(exercise: Exercise) -> None:
    hints = [str(exercise.hint(number)) for number in (1, 2, 3)]
    assert len(set(hints)) == 3
    assert exercise.name in str(exercise.solution())
    with pytest.raises(ScenarioError, match="hint = 4"):
        exercise.hint(4)


@each_exercise
def test_difficulty_and_minutes_are_stated(exercise: Exercise) -> None:
    assert exercise.difficulty in (1, 2, 3)
    assert f"about {exercise.minutes} minutes" in exercise.markdown
    assert exercise.spec in exercise.markdown


def test_cells_go_on_with_the_answer_or_with_the_solution(capsys: pytest.CaptureFixture[str]) -> None:
    exercise = named("real_cost.exposed_us")
    mine = written(exercise, exercise.solution_code)
    assert exercise.or_solution(mine) is mine
    assert capsys.readouterr().out == ""
    for wrong, state in (
        (..., "written"),
        (written(exercise, exercise.stub), "written"),
        (lambda *_: 0.0, "right yet (not so: a copy with nothing beside it is exposed)"),
    ):
        assert exercise.or_solution(wrong) is exercise.reference
        said = capsys.readouterr().out
        assert said == f"exposed_us is not {state}: below, the solution stands in for it.\n"
    with pytest.raises(ScenarioError, match="or_solution = 'decisions': its solution is a text"):
        named("judging.decisions").or_solution(...)


def cells(name: str) -> tuple[list[str], list[str]]:
    """The texts of a lesson's solution notebook: Markdown and code."""
    notebook: dict[str, Any] = json.loads((SOLUTIONS / lesson(name, keep_progress=False).notebook).read_text())
    texts: dict[str, list[str]] = {"markdown": [], "code": []}
    for cell in notebook["cells"]:
        texts[cell["cell_type"]].append("".join(cell["source"]))
    return texts["markdown"], texts["code"]


@pytest.mark.parametrize("name", LESSONS)
def test_the_notebook_asks_and_solves_what_the_lesson_does(name: str) -> None:
    markdown, code = cells(name)
    found = lesson(name, keep_progress=False)
    for short, exercise in found.exercises.items():
        assert exercise.markdown in markdown
        [region] = [text for text in code if f"#: {exercise.stub.splitlines()[0]}" in text]
        stub = "\n".join(line.removeprefix("#: ") for line in region.splitlines() if line.startswith("#: "))
        assert stub == exercise.stub
        solution = [line for line in region.splitlines() if not line.startswith(("#: ", "# solution"))]
        assert "\n".join(solution).strip("\n") == exercise.solution_code
        for call in ("show", "check"):
            assert any(f'["{short}"].{call}({exercise.name})' in text for text in code)
    for short, prediction in found.predictions.items():
        assert any(prediction.question in text for text in markdown)
        assert any(f'.reveal("{short}", my_guess)' in text for text in code)


@pytest.mark.parametrize("name", LESSONS)
def test_the_first_cell_says_what_it_needs(name: str) -> None:
    markdown, code = cells(name)
    for words in ("**You need**", "**It takes**", "**Without a GPU**"):
        assert words in markdown[0]
    assert f'lesson("{name}")' in code[0]


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ScenarioError, match=r"lesson = 'barrier': known are barriers, .* Did you mean 'barriers'"):
        lesson("barrier")
    with pytest.raises(ScenarioError, match=r"exercise = 'steps': known are step_ms"):
        lesson("barriers")["steps"]


@pytest.mark.parametrize("prediction", PREDICTIONS, ids=lambda prediction: prediction.key)
def test_predictions_are_answered_only_after_a_guess(prediction: Prediction) -> None:
    assert "Guess first" in prediction.reveal(...)
    value = prediction.answer().value
    assert "close" in prediction.reveal(value)
    assert "too high" in prediction.reveal(value + 2 * prediction.close)
    assert "too low" in prediction.reveal(value - 2 * prediction.close)
    with pytest.raises(ScenarioError, match="my_guess = 'many'"):
        prediction.reveal("many")
    with pytest.raises(ScenarioError, match="a number is needed"):
        prediction.reveal(float("nan"))


@pytest.mark.parametrize(
    ("guess", "value", "words"),
    [
        (5, 10.664, "You guessed 5 %; it is 10.7: 5.7 too low."),
        (5.25, 10.664, "You guessed 5.25 %; it is 10.7: 5.45 too low."),
        (18, 11.69, "You guessed 18 %; it is 11.7: 6.3 too high."),
        (1500, 999.7, "You guessed 1,500 %; it is 1,000: 500 too high."),
        (0.5, 0.03125, "You guessed 0.5 %; it is 0.0312: 0.4688 too high."),
        (-3, 250, "You guessed -3 %; it is 250: 253 too low."),
        (10, 10.664, "You guessed 10 %; it is 10.7: close."),
    ],
)
def test_who_subtracts_what_is_shown_finds_the_difference_that_is_shown(guess: float, value: float, words: str) -> None:
    prediction = Prediction("key", "How many?", "%", 0.2 if value < 1 else 1.0, lambda: Revealed(value, "So it is."))
    assert prediction.reveal(guess) == f"{words}\nSo it is."


def test_a_result_in_place_of_the_function_is_told_apart() -> None:
    with pytest.raises(ExerciseFailed, match="it is a function"):
        named("barriers.step_ms").check(4)


def test_show_tells_a_function_without_a_result_from_one_that_is_not_written() -> None:
    step_ms = lesson("barriers", keep_progress=False)["step_ms"]
    assert "still `...`" in step_ms.show(...).words
    assert "printing is not returning" in step_ms.show(lambda work_ms: print(work_ms)).words


def test_the_line_that_raised_is_named(tmp_path: Path) -> None:
    import linecache

    source = "def step_ms(work_ms):\n    return work_ms[7]\n"
    file = tmp_path / "cell.py"
    file.write_text(source)
    names: dict[str, Any] = {}
    exec(compile(source, str(file), "exec"), names)
    linecache.checkcache(str(file))
    with pytest.raises(ExerciseFailed, match=r"it runs\. .*IndexError.*line 2: return work_ms\[7\]"):
        named("barriers.step_ms").check(names["step_ms"])


def test_a_notebook_shows_the_failure_without_a_traceback() -> None:
    lines = ExerciseFailed("Exercise 1.1", "a name", "step_ms([[1]]) gives 2.")._render_traceback_()
    assert lines == ["Exercise 1.1: not yet", "  Property that does not hold: a name", "  step_ms([[1]]) gives 2."]
