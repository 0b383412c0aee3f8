"""What ranks of every machine report of a run, and which part of it they run untimed beforehand."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from dwdp_lab.execute.tokens import Place, place_of
from dwdp_lab.program.operation import Op, awaited
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.timeline.span import Span


def of_steps(ops: tuple[Op, ...], steps: Collection[int]) -> tuple[Op, ...]:
    """The operations of some steps, waiting only for each other: steps may be interleaved."""
    chosen: list[Op] = []
    for op, needs in zip(ops, awaited(ops), strict=True):
        if op.step in steps:
            names = zip(op.waits, needs, strict=True)
            chosen.append(op._replace(waits=tuple(name for name, index in names if ops[index].step in steps)))
    return tuple(chosen)


def span_of(rank: int, op: Op, start_us: float, end_us: float, pulled_bytes: float | None = None) -> Span:
    """An operation as it ran; a pull says how many bytes it moved."""
    nbytes = sum(work.hbm_bytes for work in op.work)
    if op.pull is not None:
        nbytes += op.pull.nbytes if pulled_bytes is None else pulled_bytes
    if op.collective is not None:
        nbytes += sum(op.collective.sent_bytes)
    return Span(
        rank=rank,
        lane=op.lane,
        kind=op.kind,
        step=op.step,
        layer=op.layer,
        start_us=start_us,
        end_us=end_us,
        nbytes=nbytes,
        flops=sum(work.flops for work in op.work),
    )


def spans_of(
    rank: int, ops: Sequence[Op], times_us: Iterable[tuple[float, float]], pulled_bytes: Mapping[Place, float]
) -> tuple[Span, ...]:
    """Operations from when to when they ran; `pulled_bytes` of pulls of which it is known only afterwards."""
    timed = zip(ops, times_us, strict=True)
    return tuple(span_of(rank, op, start, end, pulled_bytes.get(place_of(op))) for op, (start, end) in timed)


def outputs_of(scenario: Scenario, rows: Mapping[tuple[int, int], Tensor]) -> list[Tensor]:
    """[tokens, H] per step: what lies under the number of layers."""
    return [rows[step, scenario.model.layers] for step in range(scenario.batches.steps)]


def routing_of(scenario: Scenario, rows: Mapping[tuple[int, int], Tensor]) -> tuple[tuple[Tensor, ...], ...]:
    """Per step and MoE layer the experts [T, k], from `rows` by (step, layer); a step sat out chose nothing."""
    shape = scenario.model
    nothing = torch.empty(0, shape.top_k, dtype=torch.int64)
    return tuple(
        tuple(rows.get((step, layer), nothing) for layer in shape.layers_with_experts)
        for step in range(scenario.batches.steps)
    )


def sha256_of(outputs: Sequence[Tensor]) -> str:
    """Hash of the tensors' raw bytes, one after another; those of a GPU are brought to host memory one at a time."""
    digest = hashlib.sha256()
    for output in outputs:
        digest.update(output.cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
