"""What session and ranks say to each other. Plain tuples, so that the session needs no torch to read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from dwdp_lab.program.operation import Kind, Program
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.timeline.span import Span

if TYPE_CHECKING:
    from torch import Tensor


class Hello(NamedTuple):
    """Rank to session: I am connected, and load what I need."""

    rank: int
    world_size: int
    pid: int


class Ready(NamedTuple):
    """Rank to session: I can run."""

    environment: dict[str, Any]


class Order(NamedTuple):
    """Session to rank: run this program. `kinds` are those of all ranks' programs, to prepare for."""

    scenario: Scenario
    program: Program
    kinds: frozenset[Kind]
    outputs: bool


class Gather(NamedTuple):
    """Rank to session: my part of something all ranks need from each other; files may be attached."""

    name: str
    value: Any


class Gathered(NamedTuple):
    """Session to rank: all ranks' parts in rank order, and all their files."""

    name: str
    values: tuple[Any, ...]


class Progress(NamedTuple):
    """Rank to session: so many of my operations are done."""

    doing: str
    done: int
    total: int


class Finished(NamedTuple):
    """Rank to session: the run's result. Span times count from the start that the ranks agreed on."""

    spans: tuple[Span, ...]
    output_sha256: str
    notes: tuple[str, ...]
    outputs: tuple[Tensor, ...] | None  # per step [tokens, H]
    routing: tuple[tuple[Tensor, ...], ...] | None  # per step and MoE layer [tokens, top_k]


class Failed(NamedTuple):
    """Rank to session: I raised. `at_ns` tells which rank was first."""

    traceback_text: str
    at_ns: int
