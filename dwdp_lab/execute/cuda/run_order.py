"""One order on a rank of the CUDA machine: prepare, warm up, queue behind a gate, open all gates at once, report."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dwdp_lab.execute.cpu.operations import slot_of
from dwdp_lab.execute.cuda.gpu.clock import anchor
from dwdp_lab.execute.cuda.graph_program import Captured, capture_program, replay_program
from dwdp_lab.execute.cuda.operations import Computation
from dwdp_lab.execute.cuda.profile_step import profile_step
from dwdp_lab.execute.cuda.queue_program import Events, Queued, queue_program
from dwdp_lab.execute.cuda.rank_machine import RankMachine
from dwdp_lab.execute.cuda.setup import Setup, prepare
from dwdp_lab.execute.cuda.timed_run import common_start, timed_run
from dwdp_lab.execute.cuda.warm_up import warm_steps, warm_up
from dwdp_lab.execute.messages import Finished, Order, Progress
from dwdp_lab.execute.rank_session import RankSession
from dwdp_lab.execute.report import outputs_of, routing_of, sha256_of, spans_of
from dwdp_lab.execute.results import own_rows
from dwdp_lab.execute.tokens import Place
from dwdp_lab.model.layers import final_norm
from dwdp_lab.program.operation import COLLECTIVES, MESSAGES


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


def _run_prepared(session: RankSession, machine: RankMachine, setup: Setup, order: Order) -> Finished:
    ops = order.program.ops
    session.channel.send(Progress("warming up", 0, 1))
    # what is captured must have run before: kernels that are compiled or loaded meanwhile would break the capture
    warm_up(machine, setup, ops, range(setup.scenario.batches.steps) if order.graph else warm_steps(setup.scenario))
    computation = Computation(setup, machine.device, machine.streams, machine.arithmetic)
    queue = _queueing(session, machine, computation, order)
    run = timed_run(session, machine, len(ops), queue)
    deal = setup.meeting.deal if setup.meeting is not None else None
    rows = own_rows(order, session.rank, _computed(setup, machine, computation, order), deal)
    outputs = outputs_of(setup.scenario, rows)
    output_sha256 = sha256_of(outputs)
    given, routing = (tuple(outputs), routing_of(setup.scenario, rows)) if order.outputs else (None, None)
    computation.close()
    # a step under the profiler takes as much memory again, and is queued without graphs
    del queue, rows, outputs
    profiled = None
    if order.profiled:
        session.channel.send(Progress("running a step under the profiler", 0, 1))
        profiled = profile_step(session, machine, setup, ops, run.start_ns, partial(common_start, session), anchor)
    return Finished(
        spans=spans_of(
            session.rank, ops if order.recorded else (), run.times_us(machine.device), computation.pulled_bytes
        ),
        output_sha256=output_sha256,
        notes=(*_notes(setup, machine, order), *run.notes(machine.device, len(ops))),
        outputs=given,
        routing=routing,
        run_us=run.run_us(machine.device),
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


def _notes(setup: Setup, machine: RankMachine, order: Order) -> tuple[str, ...]:
    notes = [*setup.notes, *(setup.meeting.notes if setup.meeting is not None else ())]
    if order.graph:
        times = ", operations timed by event nodes within" if order.recorded else ""
        notes.append(f"each step replayed as a CUDA graph{times}; a step ends on all lanes before the next begins")
    if machine.sensors is not None and machine.sensors.note is not None:
        notes.append(machine.sensors.note)
    return tuple(notes)


def _captured(machine: RankMachine, computation: Computation, order: Order) -> Captured:
    """The program as graphs."""
    machine.device.synchronize()  # with what the computation has prepared
    ops, queue, end = order.program.ops, computation.queue, computation.end
    return capture_program(machine.device, ops, machine.streams, queue, end, order.recorded)


def _replay_once(machine: RankMachine, captured: Captured) -> None:
    """Untimed: a graph is put on the device when it is first replayed."""
    replay_program(machine.device, captured, machine.streams["compute"])
    machine.device.synchronize()


def _computed(setup: Setup, machine: RankMachine, computation: Computation, order: Order) -> dict[Place, Tensor]:
    """Routing and outputs of all tokens this rank worked on; the outputs under the number of layers.

    They are in host memory if they are asked for, or handed to other ranks. Otherwise they only have to be hashed, one
    after another: of many steps they are gigabytes, for which a host takes longer than the steps did.
    """
    layers = setup.shape.layers
    found: dict[Place, Tensor] = {}

    def work() -> None:
        found.update({place: ids.long() for place, ids in computation.chosen.items()})
        for tokens in setup.batches:
            if computation.is_output(tokens):
                found[*tokens, layers] = final_norm(computation.hidden(tokens, layers), setup.shape.rms_eps)

    machine.streams["compute"].run(work)
    machine.device.synchronize()
    return {place: rows.cpu() for place, rows in found.items()} if order.outputs or order.in_micro_batches else found
