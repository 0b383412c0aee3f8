"""One line of the doctor's report."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

Level = Literal["ok", "warn", "fail"]
"""`warn`: works, or is not needed for everything; `fail`: something that should work here does not."""

Form = Literal["simulator", "notebooks", "CPU ranks", "GPU kernels", "GPU ranks"]
FORMS: tuple[Form, ...] = get_args(Form)
"""The forms in which the lab can run, from what every laptop carries to what needs GPUs."""

GPU_FORMS: tuple[Form, ...] = ("GPU kernels", "GPU ranks")


class Finding(NamedTuple):
    """What was found, what it means for the lab, and the exact thing to do.

    `stops` names the forms that cannot run because of it; a laptop without a GPU stops two and is no failure.
    """

    name: str
    level: Level
    found: str
    meaning: str
    fix: str = ""
    stops: tuple[Form, ...] = ()
