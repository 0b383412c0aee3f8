"""Predict, then reveal: a number to guess before the machine says it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.teach.agrees import is_number
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

    def reveal(self, guess: Any) -> Text:
        """The answer beside the guess. Without a guess there is none."""
        if guess is ...:
            return Text("Guess first: a wrong guess teaches more than a right one that was never made.")
        if not is_number(guess) or not math.isfinite(guess):
            raise ScenarioError("my_guess", guess, f"a number is needed, in {self.unit}")
        guess = float(guess)
        self.keep("guess", self.key, guess)
        found = self.answer()
        guessed, answer = _written(guess), _written(found.value)
        how = f"{_apart(guessed, answer)} too {'low' if guess < found.value else 'high'}"
        if abs(guess - found.value) <= self.close:
            how = "close"
        return Text(f"You guessed {guessed} {self.unit}; it is {answer}: {how}.\n{found.words}")


def _written(value: float) -> str:
    """Three digits, and no exponent where there are thousands."""
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:,.0f}"


def _apart(one: str, other: str) -> str:
    """The difference of two numbers as they are written, so that a reader who subtracts them finds the same."""
    difference = abs(Decimal(one.replace(",", "")) - Decimal(other.replace(",", "")))
    return f"{difference:,f}"
