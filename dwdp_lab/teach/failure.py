"""How an exercise says no: which property does not hold, and the smallest case that shows it."""

from __future__ import annotations

import textwrap


class ExerciseFailed(Exception):  # noqa: N818  (a learner reads it; nothing is wrong with the lab)
    """An answer that is not right yet.

    `exercise` is its title, `violated` the name of the first property that does not hold, `example` the smallest
    counter-example in words.
    """

    def __init__(self, exercise: str, violated: str, example: str) -> None:
        self.exercise = exercise
        self.violated = violated
        self.example = example
        super().__init__(f"{exercise}: not yet. Property that does not hold: {violated}. {example}")

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows in place of a traceback through the lab's own code."""
        wrapped = [
            textwrap.fill(line, 100, initial_indent="  ", subsequent_indent="  ") for line in self.example.splitlines()
        ]
        return [f"{self.exercise}: not yet", f"  Property that does not hold: {self.violated}", *wrapped]
