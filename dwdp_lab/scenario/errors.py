"""The one error that bad input gets: field, value, what is allowed, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ScenarioError(ValueError):
    """A scenario, or something it names, cannot be used. Nothing has been started.

    `field` is the dotted path of the field (`workload.cv`), `value` what was given,
    `allowed` what would be accepted, `hint` what to do next (may be empty).
    """

    def __init__(self, field: str, value: object, allowed: str, hint: str = "") -> None:
        self.field = field
        self.value = value
        self.allowed = allowed
        self.hint = hint
        super().__init__(f"{field} = {value!r}: {allowed}" + (f". {hint}" if hint else ""))

    def __reduce__(self) -> tuple[type[ScenarioError], tuple[str, object, str, str]]:
        # it crosses process boundaries, and Exception would replay the message as `field`
        return type(self), (self.field, self.value, self.allowed, self.hint)


def nearest(name: str, known: Iterable[str]) -> str:
    """`"did you mean 'slots'? "` when a known name is close, else an empty string."""
    found = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f"did you mean {found[0]!r}?" if found else ""
