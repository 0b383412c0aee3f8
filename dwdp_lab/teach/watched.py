"""A learner's function while it is checked: what it gives is made a list where it is lazy, and a raise is noticed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

MOST = 1_000_000
"""No answer of the course gives more; what goes on without end is refused here and not by the machine's memory."""


class Watched:
    """Calls `answer`. `raised` says whether a call has raised anything since it was last set to False."""

    def __init__(self, answer: Callable[..., Any]) -> None:
        self._answer = answer
        self.raised = False
        self.__code__ = getattr(answer, "__code__", None)  # by which a message finds the learner's line

    def __call__(self, *arguments: Any) -> Any:
        try:
            return written_out(self._answer(*arguments))
        except Exception:
            self.raised = True
            raise


def written_out(value: Any, most: int = MOST) -> Any:
    """A generator, map, zip, ... as the list of what it gives; anything else as it is.

    Raises ValueError when it gives more than `most`.
    """
    if not isinstance(value, Iterator):
        return value
    found = list(islice(value, most + 1))
    if len(found) > most:
        raise ValueError(f"it gives more than {most:,} values: does it ever end?")
    return found
