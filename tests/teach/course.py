"""All exercises of the course, and a way to run answers that are given as text."""

from __future__ import annotations

import linecache
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from dwdp_lab.program.operation import Op
from dwdp_lab.program.placement import Placement
from dwdp_lab.program.rank_view import RankView
from dwdp_lab.scenario.model_shape import ModelShape
from dwdp_lab.teach.exercise import Exercise
from dwdp_lab.teach.failure import ExerciseFailed
from dwdp_lab.teach.lesson import LESSONS, lesson
from dwdp_lab.teach.virtual_gpu import VirtualGPU

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
        "Placement": Placement,
        "RankView": RankView,
        "Tensor": torch.Tensor,
        "VirtualGPU": VirtualGPU,
        "torch": torch,
    }
    if "triton" in code:
        names["triton"] = pytest.importorskip("triton")
        names["tl"] = names["triton"].language
    # as a notebook does with its cells: Triton reads the source of what it compiles
    cell = f"<cell {exercise.key} {hash(code)}>"
    linecache.cache[cell] = len(code), None, code.splitlines(keepends=True), cell
    exec(compile(code, cell, "exec"), names)
    return names[exercise.name]


def catches(key: str, answer: Any, violated: str, words: str) -> None:
    """The exercise says no to this answer, by this property, with these words in the counter-example; and shows it."""
    with pytest.raises(ExerciseFailed) as failed:
        named(key).check(answer)
    assert failed.value.violated == violated, failed.value.example
    assert words in failed.value.example
    assert named(key).show(answer).words
