"""What can go wrong with programs, by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

Fault = Literal[
    "unsignalled wait",
    "stale read",
    "early read",
    "overwrite",
    "missing",
    "twice",
    "mismatch",
    "wrong lane",
    "wrong slot",
    "not there",
    "deadlock",
    "mixed",
]


class Hazard(NamedTuple):
    """Something that can go wrong. `rank` is -1 for what the group as a whole lacks, `op` the index in the rank's
    program where it shows (-1: none)."""

    rank: int
    op: int
    fault: Fault
    message: str

    def __str__(self) -> str:
        return f"rank {self.rank}: {self.message}" if self.rank >= 0 else f"the group: {self.message}"


class ProgramError(ValueError):
    """A program that must not run; `hazards` says why."""

    def __init__(self, hazards: Sequence[Hazard]) -> None:
        self.hazards = tuple(hazards)
        more = f" (and {len(hazards) - 1} more)" if len(hazards) > 1 else ""
        super().__init__(f"{hazards[0]}{more}")
