"""All exercises of the course, and a way to run answers that are given as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from dwdp_lab.program.operation import Op
from dwdp_lab.program.rank_view import RankView
from dwdp_lab.scenario.model_shape import ModelShape
from dwdp_lab.teach.exercise import Exercise
from dwdp_lab.teach.lesson import LESSONS, lesson

EXERCISES = [exercise for name in LESSONS for exercise in lesson(name, keep_progress=False).exercises.values()]
PREDICTIONS = [each for name in LESSONS for each in lesson(name, keep_progress=False).predictions.values()]


def named(key: str) -> Exercise:
    """The exercise of this key, such as `barriers.deal`."""
    return next(exercise for exercise in EXERCISES if exercise.key == key)


def written(exercise: Exercise, code: str) -> Any:
    """What the learner's cell defines, run with the names that the notebook has imported."""
    names: dict[str, Any] = {
        "Iterator": Iterator,
        "ModelShape": ModelShape,
        "Op": Op,
        "RankView": RankView,
        "Tensor": torch.Tensor,
        "torch": torch,
    }
    exec(code, names)
    return names[exercise.name]
