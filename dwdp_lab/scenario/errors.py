"""The one error that bad input gets: field, value, what is allowed, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import Enum


class Missing(Enum):
    """The `value` of an error about a field that was not given (None may well have been given)."""

    MISSING = "missing"


MISSING = Missing.MISSING
_LONGEST_VALUE = 160


class ScenarioError(ValueError):
    """A scenario, or something it names, cannot be used. Nothing has been started.

    `field` is the dotted path of the field (`workload.cv`), `value` what was given (MISSING for nothing),
    `allowed` what would be accepted, `hint` what to do next (may be empty).
    """

    def __init__(self, field: str, value: object, allowed: str, hint: str = "") -> None:
        self.field = field
        self.value = value
        self.allowed = allowed
        self.hint = hint
        given = "" if value is MISSING else f" = {_short(value)}:"
        super().__init__(f"{field}{given} {allowed}" + (f". {hint[0].upper()}{hint[1:]}" if hint else ""))

    def __reduce__(self) -> tuple[type[ScenarioError], tuple[str, object, str, str]]:
        # it crosses process boundaries, and Exception would replay the message as `field`
        return type(self), (self.field, self.value, self.allowed, self.hint)


def nearest(name: str, known: Iterable[str]) -> str:
    """`"did you mean 'slots'?"` when a known name is close, else an empty string."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"did you mean {found[0]!r}?" if found else ""


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= _LONGEST_VALUE else shown[: _LONGEST_VALUE - 3] + "..."
