"""One step of a rank once more, under torch.profiler."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from dwdp_lab.execute.kernel_spans import LANE, OPERATION, kernels_of, named_by_time, outside_us
from dwdp_lab.execute.kineto import MARK, Bracket, Trace, read_trace
from dwdp_lab.program.operation import Lane, Op
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.timeline.profiled import Profiled
from dwdp_lab.timeline.span import Span

T = TypeVar("T")
MARKS = 20
"""At the begin and at the end: the first one is slow, and any may be interrupted."""


def profiled_step(scenario: Scenario) -> int:
    """The step to repeat, the same on all ranks: the first with the most tokens on any of them."""
    batches = scenario.batches
    return max(range(batches.steps), key=lambda step: max(batches.tokens(rank, step) for rank in range(batches.ranks)))


def labelled(ops: Sequence[Op], perform: Callable[[Op], None]) -> Callable[[Op], None]:
    """`perform`, within a range that tells the profiler which of these very operations it is."""
    numbers = {id(op): number for number, op in enumerate(ops)}

    def labelling(op: Op) -> None:
        with record_function(f"{OPERATION}{numbers[id(op)]}"):
            perform(op)

    return labelling


def label_lane(lane: Lane, launch: Callable[[], None]) -> None:
    """Let the profiler know which of the GPU's streams the lane is: `launch` puts some kernel on it."""
    with record_function(f"{LANE}{lane}"):
        launch()


def under_profiler(work: Callable[[], T], gpu: bool) -> tuple[T, Trace]:
    """What the work returns, and what torch.profiler saw of it; without a GPU in all threads.

    Raises ValueError where the profiler does not see what it should.
    """
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]
    # lanes of CPU ranks are threads, and by default only the thread that starts the profiler is seen
    threads = None if gpu else torch._C._profiler._ExperimentalConfig(profile_all_threads=True)
    with profile(activities=activities, experimental_config=threads) as profiler:
        first = _marks()
        result = work()
        last = _marks()
    with tempfile.TemporaryDirectory(prefix="dwdp-lab-profile-") as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        plain = json.loads(path.read_text(encoding="utf-8"))
    return result, read_trace(plain, first, last)


def _marks() -> list[Bracket]:
    brackets = []
    for _ in range(MARKS):
        before = time.monotonic_ns()
        with record_function(MARK):
            pass
        brackets.append(Bracket(before, time.monotonic_ns()))
    return brackets


def profiled_from(
    rank: int,
    step: int,
    ops: Sequence[Op],
    spans: Sequence[Span],
    trace: Trace,
    gpu: bool,
    zero_ns: int,
    since_ns: int,
) -> Profiled:
    """A rank's profiled step: its operations with their spans, and what of the trace began at `since_ns` or later.

    Times count from `zero_ns`, the run's start, as those of the spans do.
    """
    kernels = named_by_time(kernels_of(rank, ops, trace.seen, gpu, zero_ns, since_ns), spans)
    return Profiled(
        step=step,
        spans=tuple(spans),
        kernels=tuple(kernel.span for kernel in kernels),
        clock_error_us=trace.error_ns / 1e3,
        outside_us=outside_us(kernels, spans),
    )
