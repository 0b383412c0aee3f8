"""Small scenarios for rank processes, and the comparison of their outputs with the oracle."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dwdp_lab.execute.run_result import RunResult
from dwdp_lab.model.oracle import compare, oracle
from dwdp_lab.program.operation import Op
from dwdp_lab.program.rank_view import RankView
from dwdp_lab.scenario.scenario import Scenario

# one expert's w13 is a page of 4096 bytes, its w2 half a page: weight views meet whole and shared pages
MODEL: dict[str, Any] = {
    "name": "test",
    "layers": 4,
    "hidden": 32,
    "attention": {"kind": "gqa", "heads": 2, "kv_heads": 1, "head_dim": 16},
    "experts": 8,
    "top_k": 3,
    "expert_intermediate": 16,
    "shared_experts": 1,
    "dense_layers": 1,
    "dense_intermediate": 48,
    "dtype": "fp32",
    "expert_dtype": "fp32",
}
# nothing about one expert falls on pages, nor on 64 bytes
ODD_MODEL = MODEL | {"hidden": 36, "expert_intermediate": 20, "dtype": "bf16", "expert_dtype": "bf16"}
# with scales behind the elements: no expert of the first falls on pages either, none of the second on 16 bytes
SCALED_MODEL = MODEL | {"dtype": "bf16", "expert_dtype": "fp8_channel"}
ODD_SCALED_MODEL = ODD_MODEL | {"dtype": "fp32", "expert_dtype": "fp8_channel"}

NEVER_ENDS_GBPS = 1e-6
"""Copies paced to this take minutes: a run that only `stop`, an interrupt or a failure ends."""


def scenario(ranks: int, lengths: list[list[int]], **changes: Any) -> Scenario:
    """Requests of these lengths on each rank, all in one pass unless the workload is changed."""
    base = Scenario.create(
        model=MODEL, group={"ranks": ranks}, workload={"kind": "explicit", "lengths": lengths, "prefix_hit": 0.25}
    )
    return base.replace(**changes) if changes else base


def several_steps(ranks: int, **changes: Any) -> Scenario:
    """Three uneven steps whose requests have cached prefixes."""
    workload = {"kind": "cv", "tokens_per_rank": 40, "cv": 0.4, "isl_tokens": 16, "steps": 3, "prefix_hit": 0.3}
    return Scenario.create(model=MODEL, group={"ranks": ranks}, workload=workload).replace(**changes)


def endless(ranks: int = 2) -> Scenario:
    """A run that does not end by itself."""
    return scenario(ranks, [[8]] * ranks, link_gbps=NEVER_ENDS_GBPS)


def assert_equals_oracle(scenario: Scenario, result: RunResult) -> None:
    """Every rank's output of every step is what the slow reference computes, within the type's rounding."""
    assert result.outputs is not None
    assert result.routing is not None
    workload = scenario.workload
    for rank, steps in enumerate(scenario.batches.by_rank):
        for step, batch in enumerate(steps):
            output, routing = result.outputs[rank][step], result.routing[rank][step]
            assert output.shape == (scenario.batches.tokens(rank, step), scenario.model.hidden)
            if batch:
                exact = oracle(scenario.model, batch, workload.seed, workload.router_skew, routing)
                compare(output, exact.output, scenario.model)


def layers_in_turn(rank: RankView, swapped: bool = False) -> Iterator[Op]:
    """A pipeline of one's own: a micro-batch goes to the other of two ranks after every layer.

    A rank has every other layer, or, `swapped`, the ones for even micro-batches and the others for odd ones.
    """
    other = 1 - rank.rank
    for step in rank.all_steps:
        for micro in range(len(rank.micro_batches(step))):
            sent: tuple[str, ...] = ()
            for layer in rank.layers[(rank.rank + micro * swapped) % 2 :: 2]:
                if layer:
                    yield rank.recv_hidden(step, layer, micro, other, "received", sent)
                yield rank.attention(step, layer, ("received",) if layer else (), micro)
                if layer in rank.moe_layers:
                    yield rank.route(step, layer, micro=micro)
                    yield rank.experts(step, layer, signals="computed", micro=micro)
                else:
                    yield rank.dense(step, layer, signals="computed", micro=micro)
                if layer + 1 in rank.layers:
                    yield rank.send_hidden(step, layer + 1, micro, other, ("computed",), "sent")
                    sent = ("sent",)
