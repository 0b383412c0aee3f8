"""The commonest property: a function agrees with the right one, tried from the smallest case up."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from dwdp_lab.teach.attempt import attempt, call_text, shown
from dwdp_lab.teach.exercise import Property

Case = Sequence[Any]


def agrees(
    name: str,
    function: str,
    right: Callable[..., float],
    cases: Iterable[Case],
    within: float = 1e-9,
    why: str = "",
) -> Property:
    """The learner's `function` gives what `right` gives, within a relative deviation, for each case in order.

    `why` follows the counter-example; it may use the case's arguments as {0}, {1}, ...
    """
    listed = list(cases)

    def violation(answer: Any) -> str | None:
        for case in listed:
            got, wanted = attempt(answer, case), right(*case)
            reason = f" {why.format(*case)}" if why else ""
            if got.error:
                return f"{call_text(function, case)} {got.error}"
            if not is_number(got.value):
                return f"{call_text(function, case)} gives {shown(got.value)}, which is not a number."
            if not math.isclose(float(got.value), wanted, rel_tol=within, abs_tol=within):
                return f"{call_text(function, case)} gives {shown(float(got.value))}, but it is {wanted:.6g}.{reason}"
        return None

    return Property(name, violation)


def is_number(value: Any) -> bool:
    """Anything that float() takes without losing more than its type: numpy and torch scalars too, no text."""
    if isinstance(value, (str, bytes, bool)):
        return False
    try:
        float(value)
    except (TypeError, ValueError, OverflowError, DeprecationWarning):  # the last: an array of one, by numpy
        return False
    return True


def whole(value: Any) -> int | None:
    """An int, from numpy's and torch's too; None for what is none: floats, bools, text."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None
