"""Rank processes under `tensor` and `pipeline`: outputs against the reference, and what their timelines say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from rank_scenarios import (
    MODEL,
    ODD_MODEL,
    ODD_SCALED_MODEL,
    SCALED_MODEL,
    assert_equals_oracle,
    layers_in_turn,
    scenario,
    several_steps,
)

from dwdp_lab.execute.ranks import Ranks
from dwdp_lab.execute.run_cpu import run_cpu
from dwdp_lab.execute.run_result import RunResult
from dwdp_lab.program.build import build
from dwdp_lab.program.checker import ProgramError
from dwdp_lab.program.operation import COLLECTIVES, MESSAGES, Op
from dwdp_lab.program.pipeline import pipeline
from dwdp_lab.program.rank_view import RankView
from dwdp_lab.scenario.scenario import Scenario

pytestmark = pytest.mark.ranks

HEADS: dict[str, Any] = {"attention": {"kind": "gqa", "heads": 6, "kv_heads": 2, "head_dim": 8}}
TRACE = {"kind": "trace", "requests": 9, "divide_by": 100, "mnt_tokens": 24}


def run_both(ranks: Ranks, work: Scenario) -> dict[str, RunResult]:
    results = run_cpu(work, ("replicated", "tensor", "pipeline"), ranks, outputs=True)
    for result in results.values():
        assert_equals_oracle(work, result)
    return results


def bit_equal(one: RunResult, other: RunResult) -> bool:
    assert one.outputs is not None
    assert other.outputs is not None
    pairs = zip(one.outputs, other.outputs, strict=True)
    return all(torch.equal(a, b) for mine, theirs in pairs for a, b in zip(mine, theirs, strict=True))


@pytest.mark.parametrize("model", [MODEL, ODD_MODEL, MODEL | HEADS, ODD_MODEL | HEADS, SCALED_MODEL], ids=str)
def test_two_ranks(two_ranks: Ranks, model: dict[str, Any]) -> None:
    results = run_both(two_ranks, several_steps(2, model=model))
    assert bit_equal(results["pipeline"], results["replicated"])  # whole batches: the same products


@pytest.mark.parametrize("model", [MODEL, ODD_MODEL, MODEL | HEADS, ODD_MODEL | HEADS, ODD_SCALED_MODEL], ids=str)
def test_three_ranks_that_divide_nothing(three_ranks: Ranks, model: dict[str, Any]) -> None:
    """Two heads on three ranks: one has none. Six heads of two groups: one rank looks at both groups' keys."""
    results = run_both(three_ranks, several_steps(3, model=model))
    assert bit_equal(results["pipeline"], results["replicated"])


@pytest.mark.parametrize("ranks", [2, 3])
def test_a_trace(two_ranks: Ranks, three_ranks: Ranks, ranks: int) -> None:
    """Queues of different lengths, so the last steps are empty on some ranks."""
    work = Scenario.create(model=MODEL | HEADS, group={"ranks": ranks}, workload=TRACE)
    tokens = [[work.batches.tokens(rank, step) for step in range(work.batches.steps)] for rank in range(ranks)]
    assert any(0 in counts for counts in tokens)
    run_both(two_ranks if ranks == 2 else three_ranks, work)


def test_a_skewed_router_and_a_window(three_ranks: Ranks) -> None:
    windowed = MODEL | {"attention": {"kind": "gqa", "heads": 4, "kv_heads": 4, "head_dim": 8, "window": 7}}
    run_both(three_ranks, several_steps(3, **{"model": windowed, "workload.router_skew": 1.0}))


@pytest.mark.parametrize("parts", [2, 5])
def test_micro_batches_of_whole_requests(three_ranks: Ranks, parts: int) -> None:
    work = several_steps(3, **{"strategy.name": "pipeline", "strategy.micro_batches": parts})
    assert_equals_oracle(work, three_ranks.run(work, outputs=True))


def test_ranks_without_tokens_or_without_layers(three_ranks: Ranks) -> None:
    run_both(three_ranks, scenario(3, [[17, 3], [], [1]], **{"model.layers": 2}))


def test_one_rank_alone_is_a_replicated_one() -> None:
    with Ranks(1) as ranks:
        results = run_both(ranks, scenario(1, [[7, 2]]))
        assert len({result.output_sha256 for result in results.values()}) == 1
        parts = scenario(1, [[7, 2]], **{"strategy.name": "pipeline", "strategy.micro_batches": 2})
        assert_equals_oracle(parts, ranks.run(parts, outputs=True))


def test_all_ranks_of_tensor_have_the_same_sums(three_ranks: Ranks) -> None:
    """Each token's experts are chosen on every rank by itself: they agree only if the sums do, bit for bit."""
    work = several_steps(3, **{"model": ODD_MODEL, "strategy.name": "tensor"})
    first, second = three_ranks.run(work), three_ranks.run(work)
    assert first.output_sha256 == second.output_sha256


@pytest.mark.parametrize("strategy", ["tensor", "pipeline"])
def test_every_operation_has_its_span(three_ranks: Ranks, strategy: str) -> None:
    work = several_steps(3, **{"strategy.name": strategy, "strategy.micro_batches": 2})
    timeline = three_ranks.run(work).timeline
    expected = sorted((p.rank, op.lane, op.kind, op.step, op.layer) for p in build(work) for op in p.ops)
    assert sorted(span[:5] for span in timeline.spans if span.kind != "wait_peers") == expected
    assert all(0 <= span.start_us <= span.end_us for span in timeline.spans)
    assert timeline.tokens == tuple(work.batches.tokens(rank) for rank in range(3))


def test_a_message_begins_when_both_ranks_are_there(three_ranks: Ranks) -> None:
    """The ends begin together, unless the receiver came late and the sender had left by then."""
    work = several_steps(3, **{"strategy.name": "pipeline"})
    spans = three_ranks.run(work).timeline.spans
    for layer in {span.layer for span in spans if span.kind in MESSAGES}:
        ends = {
            kind: sorted(span.start_us for span in spans if (span.kind, span.layer) == (kind, layer))
            for kind in MESSAGES
        }
        assert len(ends["send"]) == len(ends["recv"]) == 9
        assert all(sent <= received for sent, received in zip(ends["send"], ends["recv"], strict=True))


def test_messages_are_paced_as_copies_are(two_ranks: Ranks) -> None:
    work = scenario(2, [[40], [40]], **{"strategy.name": "pipeline", "link_gbps": 0.0005})
    timeline = two_ranks.run(work).timeline
    assert timeline.notes[-1] == "copies paced to 0.0005 GB/s"
    sent = [span for span in timeline.spans if span.kind == "send"]
    assert [span.nbytes for span in sent] == [30 * 32 * 4] * 2
    took = sum(span.duration_us for span in timeline.spans if span.lane == "copy")  # waiting for the other end too
    assert took >= 2 * 30 * 32 * 4 / 0.5 - 1
    assert not [span for span in timeline.spans if span.kind in COLLECTIVES]


def test_a_pipeline_of_ones_own(two_ranks: Ranks) -> None:
    """Interleaved stages: a micro-batch visits each rank twice."""
    work = several_steps(2, **{"strategy.name": "pipeline"})
    result = two_ranks.run(work, outputs=True, programs=build(work, layers_in_turn))
    assert_equals_oracle(work, result)


def test_two_pipelines_in_opposite_directions(two_ranks: Ranks) -> None:
    """Every micro-batch begins on its own rank and ends on the other: outputs are of who sent, not of who computed."""

    def both_ways(rank: RankView) -> Iterator[Op]:
        other, half = 1 - rank.rank, len(rank.layers) // 2
        for step in rank.all_steps:
            parts = list(enumerate(rank.micro_batches(step)))
            for first in (True, False):
                for micro, part in parts:
                    if (part.rank == rank.rank) is not first:
                        continue
                    if not first:
                        yield rank.recv_hidden(step, half, micro, other, "received")
                    for layer in rank.layers[:half] if first else rank.layers[half:]:
                        yield rank.attention(step, layer, ("received",) if layer == half else (), micro)
                        if layer in rank.moe_layers:
                            yield rank.route(step, layer, micro=micro)
                            yield rank.experts(step, layer, signals="computed", micro=micro)
                        else:
                            yield rank.dense(step, layer, micro=micro)
                    if first:
                        yield rank.send_hidden(step, half, micro, other, ("computed",))

    work = several_steps(2, **{"strategy.name": "pipeline", "strategy.micro_batches": 2})
    result = two_ranks.run(work, outputs=True, programs=build(work, both_ways))
    assert_equals_oracle(work, result)


def test_a_wrong_pipeline_is_refused_before_it_starts(two_ranks: Ranks) -> None:
    def silent(rank: RankView) -> Iterator[Op]:
        return (op for op in pipeline(rank) if op.kind != "send")

    work = several_steps(2, **{"strategy.name": "pipeline"})
    with pytest.raises(ProgramError, match=r"rank 1: recv of layer 2, step 0, micro-batch 0 waits for ever: rank 0"):
        two_ranks.run(work, programs=build(work, silent))


def test_strategies_follow_each_other_on_the_same_ranks(two_ranks: Ranks) -> None:
    """What is kept of one is of no harm to the next."""
    work = several_steps(2)
    names = ("tensor", "dwdp", "pipeline", "dep", "tensor", "replicated", "pipeline", "dwdp")
    results = [two_ranks.run(work.with_strategy(name)).output_sha256 for name in names]
    assert results[0] == results[4]
    assert len({results[place] for place in (1, 2, 5, 6, 7)}) == 1
