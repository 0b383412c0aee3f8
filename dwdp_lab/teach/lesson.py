"""A lesson: the exercises and predictions of one notebook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TypeVar

from dwdp_lab.scenario.errors import ScenarioError, nearest
from dwdp_lab.teach.exercise import Exercise
from dwdp_lab.teach.prediction import Prediction
from dwdp_lab.teach.progress import keep_in_file
from dwdp_lab.teach.shown import Text, table

Each = TypeVar("Each", Exercise, Prediction)

LESSONS = (
    "barriers",
    "moe_layer",
    "rooflines",
    "moving_weights",
    "schedule",
    "split_weights",
    "contention",
    "real_cost",
    "judging",
)
"""In the order of the course; each is a module of this room with a LESSON."""


@dataclass(frozen=True)
class Lesson:
    """`lesson["step_time"]` is an exercise, `lesson.predictions["more_ranks"]` a question to guess at."""

    key: str
    notebook: str
    title: str
    exercises: Mapping[str, Exercise]
    predictions: Mapping[str, Prediction]

    def __getitem__(self, name: str) -> Exercise:
        return _named(self.exercises, "exercise", name)

    def reveal(self, name: str, guess: object) -> Text:
        """The answer to a prediction, once there is a guess."""
        return _named(self.predictions, "prediction", name).reveal(guess)

    def __repr__(self) -> str:
        rows = [
            (f"{each.number} {each.title}", name, "●" * each.difficulty + "○" * (3 - each.difficulty), each.minutes)
            for name, each in self.exercises.items()
        ]
        return f"{self.title}\n" + table(("exercise", "name", "difficulty", "minutes"), rows)


def _named(known: Mapping[str, Each], kind: str, name: str) -> Each:
    if name not in known:
        raise ScenarioError(kind, name, f"known are {', '.join(known)}", nearest(name, known))
    return known[name]


def lesson(name: str, keep_progress: bool = True) -> Lesson:
    """The lesson of that name. Checks, hints and guesses go into the learner's progress unless told otherwise.

    Raises ScenarioError for a name that is unknown.
    """
    if name not in LESSONS:
        raise ScenarioError("lesson", name, f"known are {', '.join(LESSONS)}", nearest(name, LESSONS))
    found: Lesson = import_module(f"dwdp_lab.teach.{name}").LESSON
    if not keep_progress:
        return found
    return replace(
        found,
        exercises={key: replace(each, keep=keep_in_file) for key, each in found.exercises.items()},
        predictions={key: replace(each, keep=keep_in_file) for key, each in found.predictions.items()},
    )


def lesson_of(key: str, notebook: str, title: str, exercises: list[Exercise], predictions: list[Prediction]) -> Lesson:
    """A lesson from lists; the part of a key after its dot is the name."""
    return Lesson(
        key,
        notebook,
        title,
        {each.key.split(".")[1]: each for each in exercises},
        {each.key.split(".")[1]: each for each in predictions},
    )
