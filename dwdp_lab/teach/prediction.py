"""Predict, then reveal: a number to guess before the machine says it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.teach.progress import Keep, keep_nothing
from dwdp_lab.teach.shown import Text


class Revealed(NamedTuple):
    """The number, and a sentence or two on how it comes about."""

    value: float
    words: str


@dataclass(frozen=True)
class Prediction:
    """A question whose answer is a number that the simulator or the model gives when it is asked.

    A guess is close when it is within `close` of the answer (in the answer's unit).
    """

    key: str
    question: str
    unit: str
    close: float
    answer: Callable[[], Revealed]
    keep: Keep = keep_nothing

    def reveal(self, guess: object) -> Text:
        """The answer beside the guess. Without a guess there is none."""
        if guess is ...:
            return Text("Guess first: a wrong guess teaches more than a right one that was never made.")
        if isinstance(guess, bool) or not isinstance(guess, (int, float)):
            raise ScenarioError("my_guess", guess, f"a number is needed, in {self.unit}")
        self.keep("guess", self.key, float(guess))
        found = self.answer()
        missed = abs(guess - found.value)
        how = "close" if missed <= self.close else f"{_written(missed)} too {'low' if guess < found.value else 'high'}"
        return Text(f"You guessed {_written(guess)} {self.unit}; it is {_written(found.value)}: {how}.\n{found.words}")


def _written(value: float) -> str:
    """Three digits, and no exponent where there are thousands."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
