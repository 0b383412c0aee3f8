"""One order on a CPU rank: prepare, warm up, start together with the others, run, report."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch

from dwdp_lab.execute.cpu.exchange_rows import exchange_objects
from dwdp_lab.execute.cpu.kept import Kept
from dwdp_lab.execute.cpu.lanes import LaneRun
from dwdp_lab.execute.cpu.operations import Computation
from dwdp_lab.execute.cpu.profile_step import profile_step
from dwdp_lab.execute.cpu.results import computed_rows
from dwdp_lab.execute.cpu.setup import Setup, prepare
from dwdp_lab.execute.messages import Finished, Order, Progress
from dwdp_lab.execute.rank_session import RankSession
from dwdp_lab.execute.report import of_steps, outputs_of, routing_of, sha256_of, spans_of
from dwdp_lab.execute.results import own_rows
from dwdp_lab.program.operation import Op

HEAD_START_NS = 20_000_000  # between agreeing on the start and starting: more than a message takes


def run_order(session: RankSession, kept: Kept, order: Order) -> Finished:
    """Run the order's program; its spans count from the start that all ranks agreed on."""
    session.channel.send(Progress("preparing", 0, 1))
    with torch.inference_mode():
        setup = prepare(session, kept, order)
    finished = _run_prepared(session, setup, order)
    # not after a failure: another lane may still be copying, and its process is about to end anyway
    setup.close()
    return finished


def _run_prepared(session: RankSession, setup: Setup, order: Order) -> Finished:
    ops = order.program.ops
    session.channel.send(Progress("warming up", 0, 1))
    # the first step, untimed: first calls and first touches of memory cost several times the rest
    LaneRun(of_steps(ops, {0}), Computation(setup).perform).run(start_ns=0)
    computation = Computation(setup)
    start_ns = _common_start(session)
    times = LaneRun(ops, computation.perform, _progress(session, ops)).run(start_ns)
    deal = exchange_objects if order.in_micro_batches else None
    rows = own_rows(order, session.rank, computed_rows(setup, computation), deal)
    outputs = outputs_of(setup.scenario, rows)
    profiled = None
    if order.profiled:
        session.channel.send(Progress("running a step under the profiler", 0, 1))
        profiled = profile_step(session, setup, ops, start_ns, partial(_common_start, session))
    return Finished(
        spans=spans_of(session.rank, ops, (each.since_us(start_ns) for each in times), computation.pulled_bytes),
        output_sha256=sha256_of(outputs),
        notes=tuple(setup.notes),
        outputs=tuple(outputs) if order.outputs else None,
        routing=routing_of(setup.scenario, rows) if order.outputs else None,
        profiled=profiled,
    )


def _common_start(session: RankSession) -> int:
    """A moment (ns of the monotonic clock, one for all processes of a host) that all ranks agree on."""
    proposals, _ = session.gather("start", time.monotonic_ns() + HEAD_START_NS)
    return int(max(proposals))


def _progress(session: RankSession, ops: tuple[Op, ...]) -> Callable[[int, Op], None]:
    """Reports each step when its last operation on the compute lane has ended."""
    last = {op.step: index for index, op in enumerate(ops) if op.lane == "compute"}
    ends = {index: number for number, index in enumerate(last.values(), 1)}

    def report(index: int, op: Op) -> None:
        if index in ends:
            session.channel.send(Progress(f"step {op.step + 1} done", ends[index], len(ends)))

    return report
