"""The timed run of a rank of the CUDA machine: queued behind a gate that all ranks open at once; its events' clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from dwdp_lab.execute.cuda.gpu.clock import Clock, anchor, clock
from dwdp_lab.execute.cuda.gpu.device import Device, Event
from dwdp_lab.execute.cuda.gpu.gate import hold_until
from dwdp_lab.execute.cuda.queue_program import Queued
from dwdp_lab.execute.cuda.rank_machine import RankMachine
from dwdp_lab.execute.garbage import no_collection
from dwdp_lab.execute.gpu_sample import GpuSample
from dwdp_lab.execute.messages import Progress
from dwdp_lab.execute.rank_session import RankSession

HEAD_START_NS = 50_000_000
"""Between agreeing on the start and starting, for each OPS_AHEAD operations begun: by then the host has to be done with
queueing them, or it is the host that is timed. A DEP layer of five takes it up to 2.5 ms."""
OPS_AHEAD = 100
MOST_AHEAD = 8
"""More than so many times does not fit into the streams' queues (about 1,000 launches each) anyway."""
LAST_PART, OPS_LEFT = 10, 50
"""A host that queues the last operation so late that at most this part of the run is left, and no more than so many
operations (half of what the queues hold), is not ahead."""
PACED = (
    "paced by the host: the GPU had done nearly all of its work when the last of it was queued; more tokens, fewer "
    "steps or CUDA graphs leave the host out of it"
)


class TimedRun(NamedTuple):
    """A program that has run, and the clock its events are on, which counts from the event `first`."""

    queued: Queued
    clock: Clock
    first: Event
    finish: list[Event]
    start_ns: int
    queued_ns: int
    """when the host had queued all, on its monotonic clock"""
    samples: tuple[GpuSample, ...]

    def times_us(self, device: Device) -> Iterator[tuple[float, float]]:
        """From when to when each operation ran, on the run's clock; nothing of a run that was not recorded."""
        return ((self.at_us(device, stamp.start), self.at_us(device, stamp.end)) for stamp in self.queued.stamps)

    def run_us(self, device: Device) -> float:
        """How long the run took, until all lanes had ended."""
        return max(self.at_us(device, event) for event in self.finish)

    def notes(self, device: Device, ops: int) -> tuple[str, ...]:
        """What a reader of the times of so many operations must know."""
        queued_us = (self.queued_ns - self.start_ns) / 1e3
        return (PACED,) if is_paced(queued_us, self.run_us(device), ops) else ()

    def at_us(self, device: Device, event: Event) -> float:
        """When an event happened, on the run's clock. The first operations begin with the gate, which is 0."""
        return max(0.0, (self.clock.host_ns(device.elapsed_us(self.first, event)) - self.start_ns) / 1e3)


def timed_run(session: RankSession, machine: RankMachine, ops: int, queue: Callable[[], Queued]) -> TimedRun:
    """Run what `queue` queues, a program of so many operations."""
    device = machine.device
    device.synchronize()  # with what the computation has prepared
    first = anchor(device, machine.streams["compute"])
    if machine.sensors is not None:
        machine.sensors.start()
    start_ns = common_start(session, ops)
    with no_collection(), hold_until(device, tuple(machine.streams.values()), start_ns), machine.watched():
        queued = queue()
        finish = [device.event(timed=True) for _ in machine.streams]
        for event, stream in zip(finish, machine.streams.values(), strict=True):
            stream.record(event)
        queued_ns = time.monotonic_ns()
    for number, (step, ends) in enumerate(queued.step_ends, 1):
        for end in ends:
            device.wait(end)
        session.channel.send(Progress(f"step {step + 1} done", number, len(queued.step_ends)))
    device.synchronize()
    samples = machine.sensors.stop(start_ns) if machine.sensors is not None else ()
    last = anchor(device, machine.streams["compute"])
    session.gather("ended", None)  # what comes now must not disturb ranks that are still at it
    return TimedRun(queued, clock(device, first, last), first.event, finish, start_ns, queued_ns, samples)


def is_paced(queued_us: float, run_us: float, ops: int) -> bool:
    """Whether the GPU waited for the host in a run of so many operations: then it ends soon after its last operation
    was queued, `queued_us` after its start, while a host that is ahead has filled the streams' queues by then."""
    return run_us - queued_us < run_us * min(1.0 / LAST_PART, OPS_LEFT / max(1, ops))


def common_start(session: RankSession, ops: int) -> int:
    """A moment (ns of the monotonic clock, one for all processes of a host) that all ranks agree on, by which each can
    have queued so many operations."""
    ahead = min(MOST_AHEAD, 1 + ops // OPS_AHEAD)
    proposals, _ = session.gather("start", time.monotonic_ns() + ahead * HEAD_START_NS)
    return int(max(proposals))
