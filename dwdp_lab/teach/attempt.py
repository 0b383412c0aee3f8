"""Calling a learner's code: its result, or what went wrong and in which line of it."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from dwdp_lab.scenario.model_shape import ModelShape


class Attempt(NamedTuple):
    """`error` is empty when the call came back; otherwise it says what was raised, and in which line."""

    value: Any
    error: str

    def __str__(self) -> str:
        return self.error or shown(self.value)


def attempt(answer: Callable[..., Any], arguments: Sequence[Any]) -> Attempt:
    """Call a learner's function on copies of the arguments, so that it may change them.

    Whatever it raises is caught, but not an interrupt: that is for the cell.
    """
    try:
        return Attempt(answer(*copy.deepcopy(list(arguments))), "")
    except Exception as error:
        return Attempt(None, raised(error, answer))


def raised(error: Exception, answer: Callable[..., Any]) -> str:
    """`raises ZeroDivisionError: division by zero (line 3: return 1 / 0)`, the line being one of the answer's file."""
    file = getattr(getattr(answer, "__code__", None), "co_filename", None)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    place = f" (line {frames[-1].lineno}: {frames[-1].line})" if frames and frames[-1].line else ""
    return f"raises {type(error).__name__}: {error}{place}"


def shown(value: Any) -> str:
    """A value in a message: floats with six digits, tensors, arrays and models by what they are, nothing long."""
    if isinstance(value, ModelShape):
        return value.name
    if getattr(value, "shape", ()):
        return f"{_kind(value)} of {' x '.join(str(size) for size in value.shape)}"
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()  # a number of numpy's or torch's is a number
    if isinstance(value, (list, tuple)) and (parts := [part for part in value if getattr(part, "shape", ())]):
        return f"{type(value).__name__} of {len(value)} {_kind(parts[0])}s"
    text = f"{value:.6g}" if isinstance(value, float) else repr(value)
    return text if len(text) <= 300 else text[:297] + "..."


def _kind(value: Any) -> str:
    return "array" if type(value).__module__.partition(".")[0] == "numpy" else "tensor"


def call_text(name: str, arguments: Sequence[Any]) -> str:
    """`step_ms([[1, 2]])`"""
    return f"{name}({', '.join(shown(argument) for argument in arguments)})"
