"""Find the race: name the pull and the experts that may meet on one slot."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal

from dwdp_lab.program.operation import Op
from dwdp_lab.program.rank_view import StrategyFunction
from dwdp_lab.teach.exercise import Exercise, Property
from dwdp_lab.teach.happens_before import why_before
from dwdp_lab.teach.race_picture import race_picture
from dwdp_lab.teach.schedule_checks import operations, small
from dwdp_lab.teach.shown import Shown

FORM = '{"pull": (step, layer), "experts": (step, layer)}'


def race_exercise(
    number: str,
    title: str,
    bug: StrategyFunction,
    layers: int,
    steps: int,
    difficulty: Literal[1, 2, 3],
    story: str,
    hints: tuple[str, str, str],
    race: tuple[tuple[int, int], tuple[int, int]],
) -> Exercise:
    """An exercise about a racy schedule on so many layers and steps; `race` is one right (pull, experts)."""
    name = f"{bug.__name__}_race"
    ops = operations(bug, small(layers, steps, 2))
    if isinstance(ops, str):
        raise ValueError(f"{bug.__name__}: {ops}")
    source = inspect.getsource(bug).rstrip()
    plural = "s" * (steps > 1)
    return Exercise(
        key=f"schedule.{bug.__name__}",
        number=number,
        title=title,
        difficulty=difficulty,
        minutes=5,
        name=name,
        spec=f"{story}\n\n```python\n{source}\n```\n\nThe model has {layers} layers and the run {steps} step{plural}. "
        f"Which pull may overwrite a slot that which experts still read? Write `{name} = {FORM}`. If there are several "
        "such pairs, any will do.",
        stub=f"{name} = ...  # {FORM}",
        hints=hints,
        reference=f'{name} = {{"pull": {race[0]}, "experts": {race[1]}}}',
        view=_view(ops),
        properties=(
            Property("it names a pull and experts", lambda answer: _form(ops, answer)),
            Property("both use one slot", lambda answer: _one_slot(ops, answer)),
            Property("the experts read what was there before", lambda answer: _earlier(ops, answer)),
            Property("nothing makes the pull wait for the experts", lambda answer: _unordered(ops, answer)),
        ),
    )


def _form(ops: tuple[Op, ...], answer: Any) -> str | None:
    if not isinstance(answer, dict) or set(answer) != {"pull", "experts"}:
        return f"{answer!r} is not of the form {FORM}."
    for kind, place in answer.items():
        known = [(op.step, op.layer) for op in ops if op.kind == kind]
        if (tuple(place) if isinstance(place, list) else place) not in known:
            return f"The program has no {kind} with (step, layer) = {place!r}; it has {known}."
    return None


def _indices(ops: tuple[Op, ...], answer: dict[str, tuple[int, int]]) -> tuple[int, int]:
    """Where the experts and the pull are in the program."""
    places = {(op.kind, op.step, op.layer): index for index, op in enumerate(ops)}
    return places["experts", *answer["experts"]], places["pull", *answer["pull"]]


def _one_slot(ops: tuple[Op, ...], answer: Any) -> str | None:
    experts, pull = (ops[index] for index in _indices(ops, answer))
    if experts.slot == pull.slot:
        return None
    return f"The {pull} fills slot {pull.slot}, the {experts} read slot {experts.slot}: they never meet."


def _earlier(ops: tuple[Op, ...], answer: Any) -> str | None:
    experts, pull = _indices(ops, answer)
    if experts < pull:
        return None
    return f"The {ops[experts]} come after the {ops[pull]}: what they read is not what it overwrites."


def _unordered(ops: tuple[Op, ...], answer: Any) -> str | None:
    experts, pull = _indices(ops, answer)
    chain = why_before(ops, experts, pull)
    if chain is None:
        return None
    return f"This pull cannot start too early. After the {ops[experts]}: {', then '.join(chain)}."


def _view(ops: tuple[Op, ...]) -> Callable[[Any], Shown]:
    def view(answer: Any) -> Shown:
        for test in (_form, _one_slot, _earlier):
            if wrong := test(ops, answer):
                return Shown(wrong)
        experts, pull = _indices(ops, answer)
        if chain := _unordered(ops, answer):
            return Shown(chain)
        words = f"Nothing makes the {ops[pull]} wait until the {ops[experts]} have ended."
        title = f"{ops[experts]}, and {ops[pull]} into the same slot"
        return Shown(words, race_picture(ops, experts, pull, title))

    return view
