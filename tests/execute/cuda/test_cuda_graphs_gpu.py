"""Steps captured and replayed on real GPUs: the bits, timelines and memory of runs from CUDA graphs.

`pytest -m gpu tests/execute/cuda/test_cuda_graphs_gpu.py -q -s` prints what it measures. Outputs are compared, never
times.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from gpu_ranks import NEEDS_GPUS, hashes, qwen, small
from test_cuda_ranks_gpu import assert_in_order

from dwdp_lab.execute.ranks import Ranks

pytestmark = NEEDS_GPUS


@pytest.fixture(scope="module")
def pair() -> Iterator[Ranks]:
    with Ranks(2, machine="cuda") as group:
        yield group


DWDP: list[dict[str, Any]] = [
    {},
    {"strategy.weight_view": "merged", "strategy.slots": 1},
    {"strategy.weight_view": "composite", "strategy.slots": 3, "strategy.cross_step": True},
    {"strategy.prefetch_distance": 1, "strategy.cross_step": True, "strategy.slice_bytes": "64KiB"},
    {"strategy.overlap": False},
    {"strategy.name": "replicated"},
]
NCCL: list[dict[str, Any]] = [
    {"strategy.name": "weight_gather"},
    {"strategy.name": "dep", "strategy.dep_form": "all_gather"},
    {"strategy.name": "tensor"},
]


@pytest.mark.parametrize("changes", [*DWDP, *NCCL], ids=lambda changes: "-".join(map(str, changes.values())) or "dwdp")
def test_replays_give_the_bits_of_runs_without_graphs(pair: Ranks, changes: dict[str, Any]) -> None:
    if changes in NCCL and torch.cuda.device_count() < 2:
        pytest.skip("one GPU: ranks meet through the host, which no graph holds")
    work = small(2, **changes)
    expected = hashes(pair, work)
    for recorded in (True, False):
        result = pair.run(work, graph=True, recorded=recorded)
        assert result.output_sha256 == expected
    assert hashes(pair, work) == expected  # and the next run is none the worse for it


def test_the_host_only_launches_and_every_operation_is_timed(pair: Ranks) -> None:
    work = small(2)
    result = pair.run(work, graph=True)
    assert_in_order(work, result)
    assert any("replayed as a CUDA graph" in note for note in result.timeline.notes)
    told = result.timeline.environment
    assert (told["host_waits"], told["allocations"]) == (0, 0)
    assert told["copies"] == "plain"


def test_a_real_model_from_graphs(pair: Ranks) -> None:
    """Long steps gain nothing, short ones wait for the host without graphs; and no memory is lost to them."""
    held: list[Any] = []
    for tokens in (8192, 512):
        for name in ("replicated", "dwdp"):
            work = qwen(8, tokens, **{"strategy.name": name, "strategy.copy_calls": "plain"})
            without, graph = pair.run(work), pair.run(work, graph=True)
            assert graph.output_sha256 == without.output_sha256
            assert without.run_us is not None
            assert graph.run_us is not None
            print(f"\n{name}, {tokens} tokens: {without.run_us:.0f} us, from a graph {graph.run_us:.0f} us")
            held.append([run.timeline.environment.get("memory_bytes") for run in (without, graph)])
    print(f"memory with the run's own, without and from graphs: {held}")
    work = qwen(8, 512, **{"strategy.name": "dwdp"})
    pair.run(work)
    before = pair._held_bytes
    for _ in range(3):
        pair.run(work, graph=True)
    assert max(after - first for after, first in zip(pair._held_bytes, before, strict=True)) < 64e6
