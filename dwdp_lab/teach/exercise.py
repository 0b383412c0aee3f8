"""An exercise: what is asked, what your code does, whether it is right, and help on the way."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, NoReturn

from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.teach.attempt import attempt, call_text, raised
from dwdp_lab.teach.failure import ExerciseFailed
from dwdp_lab.teach.progress import Keep, keep_nothing
from dwdp_lab.teach.shown import Shown, Text
from dwdp_lab.teach.watched import Watched

WRITTEN = "something is written"
"""The property of an answer that comes before all others."""
RUNS = "it runs"
"""The property that an answer violates by raising something, whatever was being looked at."""


class Property(NamedTuple):
    """Something every right answer has. `violation` gives the smallest counter-example in words, or None.

    `raising`: not to have it is to raise something, so that a raise is reported by its name and not as `RUNS`.
    """

    name: str
    violation: Callable[[Any], str | None]
    raising: bool = False


class Target(NamedTuple):
    """A figure by which a good answer differs from a right one: it should be at most `limit()`.

    `digits` behind the point are printed; what is counted has none.
    """

    name: str
    figure: Callable[[Any], float]
    limit: Callable[[], float]
    unit: str
    digits: int = 2


class Passed(NamedTuple):
    """What `check` returns: the answer is right; `targets` says how good."""

    title: str
    targets: tuple[tuple[Target, float, float], ...]  # (target, figure, limit)

    @property
    def reached(self) -> tuple[str, ...]:
        return tuple(target.name for target, figure, limit in self.targets if figure <= limit)

    def __repr__(self) -> str:
        lines = [f"{self.title}: right"]
        for target, figure, limit in self.targets:
            state = "reached" if figure <= limit else "not reached yet"
            unit = f" {target.unit}" if target.unit else ""
            said, most = (f"{number:.{target.digits}f}{unit}" for number in (figure, limit))
            lines.append(f"  {target.name}: {said}, the target is at most {most}: {state}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Exercise:
    """One exercise of a lesson.

    `spec` (Markdown) says what is asked, `stub` is what the learner starts from, `name` what they write (a function
    or a value), `example` makes the arguments of a first call (None when the answer is no function).
    """

    key: str
    number: str
    title: str
    difficulty: Literal[1, 2, 3]
    minutes: int
    name: str
    spec: str
    stub: str
    hints: tuple[str, str, str]
    reference: Callable[..., Any] | str  # a function, or the text of the solution
    view: Callable[[Any], Shown]
    properties: tuple[Property, ...]
    targets: tuple[Target, ...] = ()
    example: Callable[[], tuple[Any, ...]] | None = None
    keep: Keep = keep_nothing

    def show(self, answer: Any) -> Shown:
        """What the answer does, right or wrong. Never raises for what the answer does."""
        if self._unwritten(answer):
            yet = "still `...`" if answer is ... else "a function that returns nothing yet (printing is not returning)"
            return Shown(f"{self.name} is {yet}, so there is nothing to show.")
        try:
            return self.view(self._watched(answer))
        except Exception as error:
            return Shown(f"What {self.name} gives cannot be shown: it {raised(error, answer)}.")

    def check(self, answer: Any) -> Passed:
        """Raise ExerciseFailed with the first property that does not hold; else say which targets are reached."""
        try:
            self._check(answer)
            figures = [(target, self._figure(target, answer), target.limit()) for target in self.targets]
        except ExerciseFailed:
            self.keep("tried", self.key, None)
            raise
        passed = Passed(f"Exercise {self.number}", tuple(figures))
        self.keep("passed", self.key, passed.reached)
        return passed

    def or_solution(self, answer: Any) -> Any:
        """The answer if it is right, else the solution, which is said: for cells that go on from an exercise.

        The learner's progress does not change. Raises ScenarioError where the solution is no function.
        """
        if isinstance(self.reference, str):
            raise ScenarioError("or_solution", self.name, "its solution is a text", "take .solution()")
        try:
            self._check(answer)
        except ExerciseFailed as failed:
            state = "written" if failed.violated == WRITTEN else f"right yet (not so: {failed.violated})"
            print(f"{self.name} is not {state}: below, the solution stands in for it.")
            return self.reference
        return answer

    def _check(self, answer: Any) -> None:
        if unwritten := self._unwritten(answer):
            self._fail(WRITTEN, unwritten)
        if self.example is not None:
            if not callable(answer):
                self._fail("it is a function", f"{self.name} is {answer!r}; give the function itself, not a result.")
            arguments = self.example()
            first = attempt(answer, arguments)
            if first.error:
                self._fail(RUNS, f"{call_text(self.name, arguments)} {first.error}")
        watched = self._watched(answer)
        for each in self.properties:
            try:
                example = each.violation(watched)
            except Exception as error:  # the lab could not do with it what it does with right ones
                example = f"What {self.name} gives cannot be used: it {raised(error, answer)}."
            if example:
                crashed = isinstance(watched, Watched) and watched.raised and not each.raising
                self._fail(RUNS if crashed else each.name, example)

    def _watched(self, answer: Any) -> Any:
        """The answer as properties and views get it. Strategies and kernels are read by checks of their own."""
        return Watched(answer) if self.example is not None and callable(answer) else answer

    def _figure(self, target: Target, answer: Any) -> float:
        """A right answer may still raise on what a target takes, which is larger."""
        try:
            return target.figure(self._watched(answer))
        except Exception as error:
            self._fail(RUNS, f"All that was tried so far is right, but for {target.name!r} it {raised(error, answer)}.")

    def _unwritten(self, answer: Any) -> str | None:
        if answer is ...:
            return f"{self.name} is still `...`: put your answer in its place."
        if self.example is None or not callable(answer):
            return None
        arguments = self.example()
        first = attempt(answer, arguments)
        if not first.error and (first.value is None or first.value is ...):
            return f"{call_text(self.name, arguments)} gives {first.value!r}: the function returns nothing yet."
        return None

    def _fail(self, violated: str, example: str) -> NoReturn:
        raise ExerciseFailed(f"Exercise {self.number}", violated, example)

    def hint(self, number: int = 1) -> Text:
        """The first, second or third hint, each saying more."""
        if number not in (1, 2, 3):
            raise ScenarioError("hint", number, "there are hints 1, 2 and 3", "after those, .solution()")
        self.keep("hint", self.key, number)
        return Text(self.hints[number - 1])

    def solution(self) -> Text:
        """One right answer, as code. Yours may differ."""
        self.keep("solution", self.key, None)
        return Text(self.solution_code)

    @property
    def solution_code(self) -> str:
        return self.reference if isinstance(self.reference, str) else inspect.getsource(self.reference).rstrip()

    @property
    def markdown(self) -> str:
        """The exercise as a notebook's cell has it."""
        stars = "●" * self.difficulty + "○" * (3 - self.difficulty)
        heading = f"### Exercise {self.number}: {self.title}\n*{stars} · about {self.minutes} minutes*"
        return f"{heading}\n\n{self.spec}"

    def _repr_markdown_(self) -> str:
        return self.markdown

    def __repr__(self) -> str:
        return f"Exercise {self.number}: {self.title}"
