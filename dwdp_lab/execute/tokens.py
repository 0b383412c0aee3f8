"""Whose tokens a rank's operations work on: its own batch of a step, those of all ranks, or micro-batches of anyone."""

from __future__ import annotations

from dwdp_lab.execute.messages import Order
from dwdp_lab.program.micro_batches import micro_batches
from dwdp_lab.program.operation import ALL_REDUCES, Op
from dwdp_lab.program.tensor_view import joint_batch
from dwdp_lab.scenario.batches import Batch

Tokens = tuple[int, int | None]
"""(step, micro-batch)"""
Place = tuple[int, int | None, int]
"""(step, micro-batch, layer)"""


def tokens_of(op: Op) -> Tokens:
    return op.step, op.micro


def place_of(op: Op) -> Place:
    return op.step, op.micro, op.layer


def token_batches(order: Order, rank: int) -> dict[Tokens, Batch]:
    """The requests behind everything this rank computes, receives or sends, in order of steps."""
    scenario = order.scenario
    steps = range(scenario.batches.steps)
    if order.in_micro_batches:
        parts = {step: micro_batches(scenario, step) for step in steps}
        named = sorted({(op.step, op.micro) for op in order.program.ops if op.micro is not None})
        return {(step, micro): parts[step][micro].batch for step, micro in named}
    if order.kinds & ALL_REDUCES:
        return {(step, None): joint_batch(scenario.batches.by_rank, step) for step in steps}
    return {(step, None): scenario.batches.by_rank[rank][step] for step in steps}
