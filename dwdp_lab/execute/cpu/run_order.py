"""One order on a CPU rank: prepare, warm up, start together with the others, run, report."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dwdp_lab.execute.cpu.kept import Kept
from dwdp_lab.execute.cpu.lanes import LaneRun, Times
from dwdp_lab.execute.cpu.operations import Computation
from dwdp_lab.execute.cpu.setup import Setup, prepare
from dwdp_lab.execute.messages import Finished, Order, Progress
from dwdp_lab.execute.rank_session import RankSession
from dwdp_lab.model.layers import final_norm
from dwdp_lab.program.operation import Op, awaited
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.timeline.span import Span

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
    LaneRun(_first_step(ops), Computation(setup).perform).run(start_ns=0)
    computation = Computation(setup)
    start_ns = _common_start(session)
    times = LaneRun(ops, computation.perform, _progress(session, ops)).run(start_ns)
    outputs = _outputs(setup.scenario, computation)
    return Finished(
        spans=tuple(_span(session.rank, op, began, start_ns) for op, began in zip(ops, times, strict=True)),
        output_sha256=sha256_of(outputs),
        notes=tuple(setup.notes),
        outputs=tuple(outputs) if order.outputs else None,
        routing=_routing(setup.scenario, computation) if order.outputs else None,
    )


def _first_step(ops: tuple[Op, ...]) -> tuple[Op, ...]:
    """The operations of step 0, waiting only for each other: steps may be interleaved."""
    chosen: list[Op] = []
    for op, needs in zip(ops, awaited(ops), strict=True):
        if op.step == 0:
            names = zip(op.waits, needs, strict=True)
            chosen.append(op._replace(waits=tuple(name for name, index in names if ops[index].step == 0)))
    return tuple(chosen)


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


def _span(rank: int, op: Op, times: Times, start_ns: int) -> Span:
    nbytes = sum(work.hbm_bytes for work in op.work)
    if op.pull is not None:
        nbytes += op.pull.nbytes
    if op.collective is not None:
        nbytes += sum(op.collective.sent_bytes)
    return Span(
        rank=rank,
        lane=op.lane,
        kind=op.kind,
        step=op.step,
        layer=op.layer,
        start_us=(times.start_ns - start_ns) / 1e3,
        end_us=(times.end_ns - start_ns) / 1e3,
        nbytes=nbytes,
        flops=sum(work.flops for work in op.work),
    )


@torch.inference_mode()
def _outputs(scenario: Scenario, computation: Computation) -> list[Tensor]:
    return [final_norm(hidden, scenario.model.rms_eps) for hidden in computation.hidden]


def _routing(scenario: Scenario, computation: Computation) -> tuple[tuple[Tensor, ...], ...]:
    """Per step and MoE layer; a step this rank sat out chose nothing."""
    shape = scenario.model
    nothing = torch.empty(0, shape.top_k, dtype=torch.int64)
    moe_layers = range(shape.dense_layers, shape.layers)
    chosen = {place: routing.ids for place, routing in computation.routing.items()}
    return tuple(
        tuple(chosen.get((step, layer), nothing) for layer in moe_layers) for step in range(scenario.batches.steps)
    )


def sha256_of(outputs: Sequence[Tensor]) -> str:
    """Hash of the tensors' raw bytes, one after another."""
    digest = hashlib.sha256()
    for output in outputs:
        digest.update(output.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
