"""What session and ranks say to each other. Plain tuples, so that the session needs no torch to read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from dwdp_lab.execute.gpu_sample import GpuSample
from dwdp_lab.program.operation import Kind, Program
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.timeline.profiled import Profiled
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
    """Session to rank: run this program. `kinds` are those of all ranks' programs, to prepare for; `in_micro_batches`
    says whether any of these works on micro-batches, so that results may end on another rank than they are of."""

    scenario: Scenario
    program: Program
    kinds: frozenset[Kind]
    outputs: bool
    in_micro_batches: bool = False
    recorded: bool = True  # CUDA machine: whether every operation leaves a span
    graph: bool = False  # CUDA machine: whether steps are captured and replayed as CUDA graphs
    profiled: bool = False  # whether a step is run once more under torch.profiler


class Job(NamedTuple):
    """Session to rank: call `function`, named `package.module:function`, with this rank's session and `parameters`."""

    function: str
    parameters: Any


class Done(NamedTuple):
    """Rank to session: what the job's function returned."""

    value: Any


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
    run_us: float | None = None  # CUDA machine: from the common start to the end of the last operation
    clock_error_us: float | None = None  # CUDA machine: how far its spans may be off on the clock of all ranks
    environment: dict[str, Any] | None = None  # CUDA machine: transport, way of copying, memory
    samples: tuple[GpuSample, ...] = ()  # CUDA machine: the GPU's sensors, of one rank per GPU
    profiled: Profiled | None = None  # if it was asked for
    held_bytes: int = 0  # CUDA machine: GPU memory that this rank keeps for its next run


class Failed(NamedTuple):
    """Rank to session: I raised. `at_ns` tells which rank was first."""

    traceback_text: str
    at_ns: int
