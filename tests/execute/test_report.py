"""What ranks report of their outputs and operations."""

from __future__ import annotations

import hashlib

import torch
from rank_scenarios import scenario

from dwdp_lab.execute.report import of_steps, outputs_of, routing_of, sha256_of, span_of, spans_of
from dwdp_lab.program.build import build
from dwdp_lab.program.operation import Op
from dwdp_lab.timeline.span import Span


def test_outputs_are_hashed_as_one_run_of_bytes_whatever_their_shape_and_layout() -> None:
    outputs = [
        torch.arange(12, dtype=torch.float32).reshape(3, 4),
        torch.empty(0, 4),  # a step that was sat out
        torch.arange(6, dtype=torch.bfloat16).reshape(2, 3).t(),
    ]
    whole = b"".join(bytes(one.contiguous().view(torch.uint8).flatten().tolist()) for one in outputs)
    assert sha256_of(outputs) == hashlib.sha256(whole).hexdigest()
    assert sha256_of(outputs[::-1]) != sha256_of(outputs)
    assert sha256_of([]) == hashlib.sha256(b"").hexdigest()


def test_the_first_step_alone_waits_for_nothing_of_other_steps() -> None:
    """Steps may be interleaved, and wait for each other."""

    def op(step: int, layer: int, *waits: str, signals: str | None = None) -> Op:
        return Op("route", "compute", step, layer, waits, signals)

    ops = (op(0, 0, signals="a"), op(1, 1, signals="b"), op(0, 2, "a", "b"), op(1, 3, "b", "a"), op(2, 4, "a"))
    assert of_steps(ops, {0}) == (ops[0], ops[2]._replace(waits=("a",)))
    assert of_steps(ops, {1}) == (ops[1], ops[3]._replace(waits=("b",)))
    assert of_steps(ops, {0, 1}) == ops[:4]


def test_a_span_says_what_its_operation_moved_and_computed() -> None:
    work = scenario(2, [[6], [9]])
    pull = next(op for op in build(work)[1].ops if op.kind == "pull")
    assert pull.pull is not None
    assert span_of(1, pull, 2.0, 5.0) == Span(1, "copy", "pull", 0, pull.layer, 2.0, 5.0, pull.pull.nbytes, 0.0)
    # one that pulls what was routed knows only afterwards, and may have pulled nothing
    assert [span_of(1, pull, 2.0, 5.0, moved).nbytes for moved in (1000.0, 0.0)] == [1000.0, 0.0]
    known = {(0, None, pull.layer): 77.0, (0, None, pull.layer + 1): 5.0}
    assert spans_of(1, [pull], [(2.0, 5.0)], known) == (span_of(1, pull, 2.0, 5.0, 77.0),)
    experts = next(op for op in build(work)[1].ops if op.kind == "experts")
    computed = span_of(1, experts, 0.0, 1.0)
    assert computed.flops == sum(part.flops for part in experts.work) > 0
    assert computed.nbytes == sum(part.hbm_bytes for part in experts.work) > 0
    moved = next(op for op in build(work.with_strategy("dep"))[1].ops if op.kind in ("dispatch", "gather_tokens"))
    assert moved.collective is not None
    assert span_of(1, moved, 0.0, 1.0).nbytes == sum(moved.collective.sent_bytes) > 0


def test_outputs_lie_under_the_number_of_layers_and_a_step_sat_out_chose_nothing() -> None:
    work = scenario(2, [[6, 6], [9]], **{"model.layers": 3})
    layers = work.model.layers_with_experts
    assert len(layers) == 2
    chosen = {(0, layer): torch.full((4, work.model.top_k), layer) for layer in layers}
    rows = chosen | {(0, 3): torch.ones(4, 32)}
    assert [torch.equal(output, rows[0, 3]) for output in outputs_of(work, rows)] == [True]
    assert [[part.tolist() for part in step] for step in routing_of(work, rows)] == [
        [chosen[0, layer].tolist() for layer in layers]
    ]
    (nothing, _) = routing_of(work, {})[0]
    assert (nothing.shape, nothing.dtype) == ((0, work.model.top_k), torch.int64)
