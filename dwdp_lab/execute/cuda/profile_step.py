"""One step of a GPU rank once more, under torch.profiler: the kernels and copies within its operations."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch

from dwdp_lab.execute.cuda.gpu.clock import Reading, clock
from dwdp_lab.execute.cuda.gpu.device import Device, Event, Stream
from dwdp_lab.execute.cuda.gpu.gate import hold_until
from dwdp_lab.execute.cuda.operations import Computation
from dwdp_lab.execute.cuda.queue_program import Events, Queued, queue_program
from dwdp_lab.execute.cuda.rank_machine import RankMachine
from dwdp_lab.execute.cuda.setup import Setup
from dwdp_lab.execute.profiler import label_lane, labelled, profiled_from, profiled_step, under_profiler
from dwdp_lab.execute.rank_session import RankSession
from dwdp_lab.execute.report import of_steps, spans_of
from dwdp_lab.program.operation import Op
from dwdp_lab.timeline.profiled import Profiled
from dwdp_lab.timeline.span import Span

Anchor = Callable[[Device, Stream], Reading]


class _Repeated(NamedTuple):
    """The step's operations in their order, how far their times may be off, and when it began."""

    spans: tuple[Span, ...]
    error_us: float
    since_ns: int


def profile_step(
    session: RankSession,
    machine: RankMachine,
    setup: Setup,
    ops: tuple[Op, ...],
    zero_ns: int,
    common_start: Callable[[int], int],
    anchor: Anchor,
) -> Profiled:
    """The run's step with the most tokens, all ranks together, queued operation by operation also after a run from
    graphs. Times count from `zero_ns`.

    It runs twice within the profiler, whose own set-up would show in the first time.
    """
    step = profiled_step(setup.scenario)
    chosen = of_steps(ops, {step})

    def run() -> _Repeated:
        for lane, stream in machine.streams.items():
            label_lane(lane, partial(stream.run, partial(_touch, machine.device)))
        _, once = _queue(machine, setup, chosen, recorded=False)
        machine.device.synchronize()
        once.close()  # or the second time would take memory of its own, and ask the driver for it under the profiler
        since_ns = time.monotonic_ns()
        spans, error_us = _timed(machine, setup, chosen, zero_ns, common_start, anchor)
        session.gather("profiled", None)  # reading the trace must not disturb ranks that are still at it
        return _Repeated(spans, error_us, since_ns)

    gpu = machine.device.torch_device.type == "cuda"
    machine.device.synchronize()
    did, trace = under_profiler(run, gpu)
    found = profiled_from(setup.rank, step, chosen, did.spans, trace, gpu, zero_ns, did.since_ns)
    return replace(found, clock_error_us=found.clock_error_us + did.error_us)


def _touch(device: Device) -> None:
    """A kernel that does nothing of use."""
    torch.ones(1, device=device.torch_device)


def _queue(machine: RankMachine, setup: Setup, ops: tuple[Op, ...], recorded: bool) -> tuple[Queued, Computation]:
    """What is queued, and what is to be closed when it has ended."""
    computation = Computation(setup, machine.device, machine.streams, machine.arithmetic)
    events = Events(machine.device, ops, recorded)
    queue = labelled(ops, computation.queue)
    return queue_program(ops, events, machine.streams, queue, computation.end), computation


def _timed(
    machine: RankMachine,
    setup: Setup,
    ops: tuple[Op, ...],
    zero_ns: int,
    common_start: Callable[[int], int],
    anchor: Anchor,
) -> tuple[tuple[Span, ...], float]:
    """The operations' spans, in their order, and how far off they may be on the ranks' clock."""
    device, compute = machine.device, machine.streams["compute"]
    first = anchor(device, compute)
    with hold_until(device, tuple(machine.streams.values()), common_start(len(ops))):
        queued, computation = _queue(machine, setup, ops, recorded=True)
    device.synchronize()
    computation.close()
    between = clock(device, first, anchor(device, compute))

    def at_us(event: Event) -> float:
        return (between.host_ns(device.elapsed_us(first.event, event)) - zero_ns) / 1e3

    times = ((at_us(stamp.start), at_us(stamp.end)) for stamp in queued.stamps)
    return spans_of(setup.rank, ops, times, computation.pulled_bytes), between.error_us
