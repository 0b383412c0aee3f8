"""One order on a rank of the CUDA machine: prepare, warm up, queue behind a gate, open all gates at once, report."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dwdp_lab.execute.cpu.operations import slot_of
from dwdp_lab.execute.cuda.clock import Clock, anchor, clock
from dwdp_lab.execute.cuda.device import Device, Event
from dwdp_lab.execute.cuda.gate import hold_until
from dwdp_lab.execute.cuda.graph_program import Captured, capture_program, replay_program
from dwdp_lab.execute.cuda.operations import Computation
from dwdp_lab.execute.cuda.profile_step import profile_step
from dwdp_lab.execute.cuda.queue_program import Events, Queued, queue_program
from dwdp_lab.execute.cuda.rank_machine import RankMachine
from dwdp_lab.execute.cuda.setup import Setup, prepare
from dwdp_lab.execute.gpu_sample import GpuSample
from dwdp_lab.execute.messages import Finished, Order, Progress
from dwdp_lab.execute.rank_session import RankSession
from dwdp_lab.execute.report import of_steps, outputs_of, routing_of, sha256_of, span_of
from dwdp_lab.execute.results import own_rows
from dwdp_lab.execute.tokens import Place, place_of
from dwdp_lab.model.layers import final_norm
from dwdp_lab.program.operation import COLLECTIVES, MESSAGES, Op
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.timeline.span import Span

HEAD_START_NS = 50_000_000
"""Between agreeing on the start and starting: as long as it takes to fill a stream's queue (about 1,000 launches)."""
MOST_WARM_STEPS = 8


def run_order(session: RankSession, machine: RankMachine, order: Order) -> Finished:
    """Run the order's program; its spans count from the start that all ranks agreed on.

    After a failure nothing is given back: what is queued may wait for ever for the others, and this process ends.
    """
    session.channel.send(Progress("preparing", 0, 1))
    with torch.inference_mode():
        experts = machine.kept.prepare(session, order)
        meets = order.kinds & (COLLECTIVES | MESSAGES) or order.in_micro_batches
        meeting = machine.meeting(session, order) if meets else None
        setup = prepare(machine.device.torch_device, machine.kept, experts, meeting, order, session.rank)
        session.gather("prepared", None)  # so that copies are tried while all ranks copy, and none still draws weights
        way = _copy_way(machine, setup, order)
        finished = _run_prepared(session, machine, setup, order)
        told: dict[str, Any] = {} if way is None else {"copies": way}
        told |= machine.watch.seen._asdict() if machine.watch is not None else {}
        told |= {"memory_bytes": machine.used_bytes()} if machine.used_bytes is not None else {}
        experts.close()
    return finished._replace(environment=told, held_bytes=machine.held_bytes())


def _copy_way(machine: RankMachine, setup: Setup, order: Order) -> str | None:
    """How pulls are handed over; of those that only the routing decides nothing is known beforehand."""
    pulls = (op for op in order.program.ops if op.pull is not None and not op.pull.routed)
    first = next((setup.experts.copies(op.layer, slot_of(op)) for op in pulls), ())
    wish = "plain" if order.graph else setup.scenario.strategy.copy_calls  # batches cannot be captured
    return machine.copy_way(first, wish) if first else None


class _Run(NamedTuple):
    """A program that has run, and the clock its events are on, which counts from the event `first`."""

    queued: Queued
    clock: Clock
    first: Event
    finish: list[Event]
    start_ns: int
    samples: tuple[GpuSample, ...]

    def at_us(self, device: Device, event: Event) -> float:
        """When an event happened, on the run's clock. The first operations begin with the gate, which is 0."""
        return max(0.0, (self.clock.host_ns(device.elapsed_us(self.first, event)) - self.start_ns) / 1e3)


def _run_prepared(session: RankSession, machine: RankMachine, setup: Setup, order: Order) -> Finished:
    ops = order.program.ops
    session.channel.send(Progress("warming up", 0, 1))
    # what is captured must have run before: kernels that are compiled or loaded meanwhile would break the capture
    _warm_up(machine, setup, ops, range(setup.scenario.batches.steps) if order.graph else warm_steps(setup.scenario))
    computation = Computation(setup, machine.device, machine.streams, machine.arithmetic)
    queue = _queueing(session, machine, computation, order)
    run = _timed(session, machine, queue)
    deal = setup.meeting.deal if setup.meeting is not None else None
    rows = own_rows(order, session.rank, _computed(setup, machine, computation), deal)
    computation.close()
    del queue  # with its graphs: a step under the profiler is queued without them, and takes as much memory again
    outputs = outputs_of(setup.scenario, rows)
    profiled = None
    if order.profiled:
        session.channel.send(Progress("running a step under the profiler", 0, 1))
        profiled = profile_step(session, machine, setup, ops, run.start_ns, partial(_common_start, session), anchor)
    return Finished(
        spans=_spans(session.rank, machine.device, ops, run, computation),
        output_sha256=sha256_of(outputs),
        notes=(*setup.notes, *(setup.meeting.notes if setup.meeting is not None else ()), *_graph_notes(order)),
        outputs=tuple(outputs) if order.outputs else None,
        routing=routing_of(setup.scenario, rows) if order.outputs else None,
        run_us=max(run.at_us(machine.device, event) for event in run.finish),
        clock_error_us=run.clock.error_us,
        samples=run.samples,
        profiled=profiled,
    )


def _queueing(
    session: RankSession, machine: RankMachine, computation: Computation, order: Order
) -> Callable[[], Queued]:
    """What queues the program. Graphs and their memory live as long as it does."""
    if not order.graph:
        events = Events(machine.device, order.program.ops, order.recorded)
        return partial(queue_program, order.program.ops, events, machine.streams, computation.queue, computation.end)
    session.channel.send(Progress("capturing", 0, 1))
    captured = _captured(machine, computation, order)
    _replay_once(machine, captured)
    return partial(replay_program, machine.device, captured, machine.streams["compute"])


def _graph_notes(order: Order) -> tuple[str, ...]:
    if not order.graph:
        return ()
    times = ", operations timed by event nodes within" if order.recorded else ""
    return (f"each step replayed as a CUDA graph{times}; a step ends on all lanes before the next begins",)


def _warm_up(machine: RankMachine, setup: Setup, ops: tuple[Op, ...], steps: Collection[int]) -> None:
    """Run these steps untimed: first calls compile, load and allocate.

    Meanwhile the outputs of all steps have their place, so that the timed run finds as much free memory as it needs.
    """
    chosen = of_steps(ops, steps)
    computation = Computation(setup, machine.device, machine.streams, machine.arithmetic)
    places: list[Tensor] = []
    machine.streams["compute"].run(lambda: places.extend(torch.empty_like(x) for x in setup.inputs.values()))
    events = Events(machine.device, chosen, recorded=False)
    machine.device.synchronize()  # lanes do not wait for torch's default stream, on which all this was prepared
    queue_program(chosen, events, machine.streams, computation.queue, computation.end)
    machine.device.synchronize()
    computation.close()


def _captured(machine: RankMachine, computation: Computation, order: Order) -> Captured:
    """The program as graphs."""
    machine.device.synchronize()  # with what the computation has prepared
    ops, queue, end = order.program.ops, computation.queue, computation.end
    return capture_program(machine.device, ops, machine.streams, queue, end, order.recorded)


def _replay_once(machine: RankMachine, captured: Captured) -> None:
    """Untimed: a graph is put on the device when it is first replayed."""
    replay_program(machine.device, captured, machine.streams["compute"])
    machine.device.synchronize()


def warm_steps(scenario: Scenario) -> frozenset[int]:
    """One step of each combination of sizes, the largest ones if there are many; the same on every rank."""
    batches = scenario.batches
    sizes: dict[tuple[int, ...], int] = {}
    for step in range(batches.steps):
        sizes.setdefault(tuple(batches.tokens(rank, step) for rank in range(batches.ranks)), step)
    largest_first = sorted(sizes, key=lambda tokens: (-max(tokens), sizes[tokens]))
    return frozenset(sizes[tokens] for tokens in largest_first[:MOST_WARM_STEPS])


def _timed(session: RankSession, machine: RankMachine, queue: Callable[[], Queued]) -> _Run:
    device = machine.device
    device.synchronize()  # with what the computation has prepared
    first = anchor(device, machine.streams["compute"])
    if machine.sampler is not None:
        machine.sampler.start()
    start_ns = _common_start(session)
    with hold_until(device, tuple(machine.streams.values()), start_ns), machine.watched():
        queued = queue()
        finish = [device.event(timed=True) for _ in machine.streams]
        for event, stream in zip(finish, machine.streams.values(), strict=True):
            stream.record(event)
    for number, (step, ends) in enumerate(queued.step_ends, 1):
        for end in ends:
            device.wait(end)
        session.channel.send(Progress(f"step {step + 1} done", number, len(queued.step_ends)))
    device.synchronize()
    samples = machine.sampler.stop(start_ns) if machine.sampler is not None else ()
    last = anchor(device, machine.streams["compute"])
    session.gather("ended", None)  # what comes now must not disturb ranks that are still at it
    return _Run(queued, clock(device, first, last), first.event, finish, start_ns, samples)


def _common_start(session: RankSession) -> int:
    """A moment (ns of the monotonic clock, one for all processes of a host) that all ranks agree on."""
    proposals, _ = session.gather("start", time.monotonic_ns() + HEAD_START_NS)
    return int(max(proposals))


def _spans(rank: int, device: Device, ops: tuple[Op, ...], run: _Run, computation: Computation) -> tuple[Span, ...]:
    stamped = zip(ops, run.queued.stamps, strict=True) if run.queued.stamps else ()
    return tuple(
        span_of(
            rank,
            op,
            run.at_us(device, stamp.start),
            run.at_us(device, stamp.end),
            computation.pulled_bytes.get(place_of(op)),
        )
        for op, stamp in stamped
    )


def _computed(setup: Setup, machine: RankMachine, computation: Computation) -> dict[Place, Tensor]:
    """Routing and outputs of all tokens this rank worked on, in host memory; the outputs under the number of layers."""
    layers = setup.shape.layers
    found: dict[Place, Tensor] = {}

    def work() -> None:
        found.update({place: ids.long() for place, ids in computation.chosen.items()})
        for tokens in setup.batches:
            if computation.is_output(tokens):
                found[*tokens, layers] = final_norm(computation.hidden(tokens, layers), setup.shape.rms_eps)

    machine.streams["compute"].run(work)
    machine.device.synchronize()
    return {place: rows.cpu() for place, rows in found.items()}
