"""The Triton kernels on a real GPU: right, the same from run to run, the same from any buffers, graph-capturable.

A clean run of the `memcheck` ones under NVIDIA's memory checker:
compute-sanitizer --tool memcheck python -m pytest -m gpu tests/kernels/gpu -k memcheck
"""

from __future__ import annotations

import logging
import math
import threading
from typing import Any

import pytest
import torch
import triton
from compiled_gemm import compile_gemm, instructions
from dwdp_kernels import launch
from dwdp_kernels.expert_mlp import expert_mlp
from dwdp_kernels.expert_table import expert_table
from dwdp_kernels.gemm_config import GemmConfig, Kind, WeightLoads
from dwdp_kernels.grouped_gemm import grouped_gemm, grouped_gemm_reference, usable_loads
from dwdp_kernels.grouped_gemm_kernel import grouped_gemm_kernel
from dwdp_kernels.grouped_mlp import grouped_mlp
from dwdp_kernels.launch import device_of
from dwdp_kernels.routing import route_visits, route_visits_reference, tiles_of, tiles_reference
from kernel_cases import (
    GroupedCase,
    RoutedCase,
    fill_what_torch_empty_makes,
    grouped_case,
    relative_error,
    routed_case,
    spread_over_buffers,
)
from torch import Tensor

pytestmark = pytest.mark.gpu

TYPES = [torch.bfloat16, torch.float16, torch.float32]
COUNTS = {
    "skewed": [700, 3, 0, 129, 128, 1, 0, 64],
    "one expert": [0, 0, 0, 1000, 0, 0, 0, 0],
    "no rows": [0] * 8,
    "one row": [0, 1, 0, 0, 0, 0, 0, 0],
}
SHAPES = [(16, 16), (768, 2048), (2048, 1536), (80, 272)]
BOUND = {torch.bfloat16: 1e-2, torch.float16: 2e-3, torch.float32: 1e-5}
LARGEST = {"product": GemmConfig(128, 256, 64, stages=3), "swiglu": GemmConfig(128, 256, 64, stages=4)}


def exact_rows(case: GroupedCase) -> Tensor:
    return grouped_gemm_reference(case.x.double(), [w.double() for w in case.weights], case.offsets)


def exact_layer(case: RoutedCase) -> Tensor:
    wide = ([w.double() for w in weights] for weights in (case.w13, case.w2))
    return grouped_mlp(case.x.double(), case.ids, case.weights.double(), *wide)


def fused(case: RoutedCase, buffers: int = 1) -> Tensor:
    w13, w2 = (expert_table(spread_over_buffers(weights, buffers)) for weights in (case.w13, case.w2))
    return expert_mlp(case.x, case.ids, case.weights, w13, w2)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS.keys())
@pytest.mark.parametrize(("k", "n"), SHAPES)
def test_grouped_gemm_equals_float64(dtype: torch.dtype, counts: list[int], k: int, n: int) -> None:
    case = grouped_case(counts, k, n, dtype, device="cuda")
    table = expert_table(case.weights)
    result = grouped_gemm(case.x, table, case.offsets)
    assert relative_error(result, exact_rows(case)) <= BOUND[dtype]
    for _ in range(3):
        assert torch.equal(grouped_gemm(case.x, table, case.offsets), result)


@pytest.mark.parametrize("loads", ["reach", "each", "plain"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_each_way_of_loading_is_right_and_any_buffers_give_the_same_bits(
    loads: WeightLoads, dtype: torch.dtype
) -> None:
    case = grouped_case(COUNTS["skewed"], 768, 528, dtype, device="cuda")
    config = GemmConfig(128, 128, 32, stages=3, weights=loads)
    one = grouped_gemm(case.x, expert_table(torch.stack(case.weights)), case.offsets, config)
    assert relative_error(one, exact_rows(case)) <= BOUND[dtype]
    for buffers in (1, 2, 4, 8):
        table = expert_table(spread_over_buffers(case.weights, buffers))
        assert torch.equal(grouped_gemm(case.x, table, case.offsets, config), one), buffers


@pytest.mark.parametrize("loads", ["reach", "each", "plain"])
def test_rows_past_the_last_expert_are_not_written(loads: WeightLoads, monkeypatch: pytest.MonkeyPatch) -> None:
    case = grouped_case(COUNTS["skewed"], 256, 272, torch.bfloat16, device="cuda")
    rows = len(case.x)
    padded = torch.cat([case.x, case.x.new_full((200, 256), math.nan)])
    config = GemmConfig(128, 128, 32, stages=3, weights=loads)
    with monkeypatch.context() as patch:
        fill_what_torch_empty_makes(patch, 7.0)
        result = grouped_gemm(padded, expert_table(case.weights), case.offsets, config)
    assert relative_error(result[:rows], exact_rows(case)) <= BOUND[torch.bfloat16]
    assert (result[rows:] == 7).all()


@pytest.mark.parametrize("kind", ["product", "swiglu"])
def test_tma_moves_the_tiles_on_hopper_and_later(kind: Kind) -> None:
    capability = torch.cuda.get_device_capability()
    if capability < (9, 0) or capability >= (12, 0):
        pytest.skip(f"compute capability {capability} is not a data centre's Hopper or later")
    case = grouped_case(COUNTS["skewed"], 768, 1536, torch.bfloat16, device="cuda")
    table = expert_table(spread_over_buffers(case.weights, 4))
    assert usable_loads("reach", table, device_of(case.x)) == "reach"
    grouped_gemm(case.x, table, case.offsets, LARGEST["product"])
    made = compile_gemm(LARGEST[kind], kind, capability)
    assert instructions(made.ptx, r"cp\.async\.bulk\.tensor\.\dd\.shared")
    assert instructions(made.ptx, r"cp\.async\.bulk\.tensor\.\dd\.global")
    # what was launched, not only what could be
    launched = [each.asm["ptx"] for each in launched_kernels()]
    assert any("cp.async.bulk.tensor" in ptx for ptx in launched)


def launched_kernels() -> list[Any]:
    """The variants of the grouped GEMM that have been launched on this device."""
    cache = grouped_gemm_kernel.device_caches[torch.cuda.current_device()][0]
    return list(cache.values())


@pytest.mark.parametrize(("tokens", "top_k", "experts"), [(1, 1, 1), (7, 2, 4), (5000, 8, 128), (300, 3, 257)])
def test_routing_equals_a_stable_sort(tokens: int, top_k: int, experts: int) -> None:
    ids = routed_case(tokens, top_k, experts, 16, 16, torch.float32, skew=2.0, device="cuda").ids
    routes, expected = route_visits(ids, experts), route_visits_reference(ids, experts)
    for found, wanted in zip(routes, expected, strict=True):
        assert torch.equal(found, wanted)
    for height in (16, 128):
        tiles = tiles_of(routes.offsets, tokens * top_k, height)
        used = int(tiles.used)
        found_tiles = zip(tiles.expert[:used].tolist(), tiles.row[:used].tolist(), strict=True)
        assert list(found_tiles) == tiles_reference(routes.offsets, height)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("tokens", "top_k", "experts", "hidden", "inner"), [(1, 1, 1, 16, 16), (500, 4, 16, 512, 272)])
def test_the_layer_equals_float64_from_any_buffers(
    dtype: torch.dtype, tokens: int, top_k: int, experts: int, hidden: int, inner: int
) -> None:
    case = routed_case(tokens, top_k, experts, hidden, inner, dtype, device="cuda")
    one = fused(case)
    assert relative_error(one, exact_layer(case)) <= BOUND[dtype]
    for buffers in (1, 2, 4, 8):
        assert torch.equal(fused(case, min(buffers, experts)), one)


def test_nothing_makes_the_host_wait() -> None:
    case = routed_case(300, 4, 16, 256, 128, torch.bfloat16, device="cuda")
    w13, w2 = expert_table(case.w13), expert_table(case.w2)
    expert_mlp(case.x, case.ids, case.weights, w13, w2)
    torch.cuda.set_sync_debug_mode("error")
    try:
        expert_mlp(case.x, case.ids, case.weights, w13, w2)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_graph_replays_the_layer_on_other_routings() -> None:
    case = routed_case(300, 4, 16, 256, 128, torch.bfloat16, device="cuda")
    w13, w2 = expert_table(case.w13), expert_table(case.w2)
    expert_mlp(case.x, case.ids, case.weights, w13, w2)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = expert_mlp(case.x, case.ids, case.weights, w13, w2)
    for seed in range(3):
        other = routed_case(300, 4, 16, 256, 128, torch.bfloat16, skew=4.0, seed=seed, device="cuda")
        for mine, theirs in zip(case[:3], other[:3], strict=True):
            mine.copy_(theirs)
        graph.replay()
        assert torch.equal(out, expert_mlp(case.x, case.ids, case.weights, w13, w2))
        assert relative_error(out, exact_layer(case)) <= BOUND[torch.bfloat16]


def test_a_thread_and_a_stream_of_its_own() -> None:
    case = grouped_case(COUNTS["skewed"], 256, 256, torch.bfloat16, device="cuda")
    table = expert_table(case.weights)
    expected = grouped_gemm(case.x, table, case.offsets)
    torch.cuda.synchronize()
    results: list[Tensor] = []

    def elsewhere() -> None:
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            results.append(grouped_gemm(case.x, table, case.offsets))
        stream.synchronize()

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert torch.equal(results[0], expected)


def test_the_first_compilation_is_announced_once(caplog: pytest.LogCaptureFixture) -> None:
    launch._say_once.cache_clear()
    case = grouped_case([3], 16, 16, torch.float16, device="cuda")
    with caplog.at_level(logging.WARNING, "dwdp_kernels.launch"):
        for _ in range(2):
            grouped_gemm(case.x, expert_table(case.weights), case.offsets)
    assert [triton.__version__ in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.parametrize("loads", ["reach", "each", "plain"])
def test_memcheck_grouped_gemm(loads: WeightLoads) -> None:
    case = grouped_case([70, 0, 1, 33], 80, 48, torch.bfloat16, device="cuda")
    config = GemmConfig(64, 64, 32, warps=4, weights=loads)
    result = grouped_gemm(case.x, expert_table(spread_over_buffers(case.weights, 2)), case.offsets, config)
    assert relative_error(result, exact_rows(case)) <= BOUND[torch.bfloat16]


def test_memcheck_layer() -> None:
    case = routed_case(50, 2, 5, 80, 48, torch.bfloat16, device="cuda")
    assert relative_error(fused(case, 2), exact_layer(case)) <= BOUND[torch.bfloat16]
