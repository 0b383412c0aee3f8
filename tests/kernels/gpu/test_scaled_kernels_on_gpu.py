"""The kernels with weights in e4m3 on a real GPU: right within what it sums with, deterministic, from any buffers.

A clean run of the `memcheck` ones under NVIDIA's memory checker:
compute-sanitizer --tool memcheck python -m pytest -m gpu tests/kernels/gpu -k memcheck
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
from dwdp_kernels.e4m3 import largest_error, quantise
from dwdp_kernels.expert_mlp import LayerConfig, expert_mlp
from dwdp_kernels.expert_table import ExpertTable
from dwdp_kernels.gemm_config import GemmConfig, WeightLoads
from dwdp_kernels.grouped_gemm import Rows, grouped_gemm, multiply
from dwdp_kernels.launch import device_of
from dwdp_kernels.quantise_rows import quantise_rows
from dwdp_kernels.scaled_experts import pack_experts, quantise_experts, quantised_experts, scaled_expert_table
from dwdp_kernels.scaled_grouped_mlp import scaled_grouped_mlp
from kernel_cases import RoutedCase, grouped_case, relative_error, routed_case, spread_over_buffers
from scaled_cases import exact_products
from torch import Tensor

pytestmark = pytest.mark.gpu

COUNTS = {
    "skewed": [700, 3, 0, 129, 128, 1, 0, 64],
    "one expert": [0, 0, 0, 1000, 0, 0, 0, 0],
    "no rows": [0] * 8,
    "one row": [0, 1, 0, 0, 0, 0, 0, 0],
}
PLAIN_SHAPES = [(16, 16), (768, 2048), (2048, 1536), (80, 272), (7168, 256)]


@pytest.fixture(autouse=True)
def a_gpu_with_e4m3() -> None:
    if torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("e4m3 needs compute capability 8.9 or later")


class Case(NamedTuple):
    x: Tensor
    offsets: Tensor
    packed: Tensor
    n: int
    k: int

    def table(self, buffers: int = 0) -> ExpertTable:
        packed = spread_over_buffers(list(self.packed), buffers) if buffers else self.packed
        return scaled_expert_table(packed, self.n, self.k)


def packed_table(weights: Tensor) -> ExpertTable:
    return scaled_expert_table(pack_experts(quantise_experts(weights)), *weights.shape[1:])


def case_of(counts: list[int], k: int, n: int, dtype: torch.dtype = torch.bfloat16) -> Case:
    drawn = grouped_case(counts, k, n, dtype, device="cuda")
    return Case(drawn.x, drawn.offsets, pack_experts(quantise_experts(torch.stack(drawn.weights))), n, k)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize(("rows", "columns"), [(1, 16), (300, 768), (77, 2048), (5, 7168), (3, 28672)])
def test_rows_are_quantised_bit_for_bit_as_torch_does(dtype: torch.dtype, rows: int, columns: int) -> None:
    random = torch.Generator("cuda").manual_seed(0)
    x = torch.randn(rows, columns, device="cuda", generator=random)
    x = (x * torch.logspace(-4, 3, rows, device="cuda")[:, None]).to(dtype)
    x[-1] = 0
    made, expected = quantise_rows(x), quantise(x)
    assert torch.equal(made.scales, expected.scales)
    assert torch.equal(made.values.view(torch.uint8), expected.values.view(torch.uint8))


def test_what_is_not_finite_stays_in_its_row() -> None:
    x = torch.ones(3, 256, device="cuda", dtype=torch.bfloat16)
    x[0, 5], x[1, 7] = math.nan, math.inf
    made = quantise_rows(x).exact()
    assert made[0, 5].isnan()
    assert not made[1, 7].isfinite()
    torch.testing.assert_close(made[2], torch.ones(256, device="cuda", dtype=torch.float64), rtol=1e-6, atol=0)


@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS.keys())
@pytest.mark.parametrize(("k", "n"), PLAIN_SHAPES)
def test_grouped_gemm_equals_float64_of_the_quantised(counts: list[int], k: int, n: int) -> None:
    case = case_of(counts, k, n)
    table = case.table()
    result = grouped_gemm(case.x, table, case.offsets)
    assert relative_error(result, exact_products(case.x, table, case.offsets)) <= largest_error(k)
    for _ in range(3):
        assert torch.equal(grouped_gemm(case.x, table, case.offsets), result)


def test_promoted_sums_are_as_exact_as_bf16_rounding() -> None:
    case = case_of([500, 0, 300], 7168, 256)
    table = case.table()
    exact = exact_products(case.x, table, case.offsets)
    tile = GemmConfig(128, 128, 128, stages=3)
    fast, promoted = (
        relative_error(grouped_gemm(case.x, table, case.offsets, replace(tile, promote=promote)), exact)
        for promote in (0, 512)
    )
    assert promoted <= largest_error(7168, 512)
    assert promoted <= fast <= largest_error(7168)


def test_promoting_is_what_makes_sums_exact() -> None:
    """Numbers of one sign, so that what is cut off adds up, and results of fp32, whose rounding does not hide it."""
    drawn = grouped_case([500, 0, 300], 7168, 256, torch.float32, device="cuda")
    if not device_of(drawn.x).sums_e4m3_in_few_bits:
        pytest.skip("tensor cores of this GPU sum in fp32")
    x, table = drawn.x.abs(), packed_table(torch.stack(drawn.weights).abs())
    exact = exact_products(x, table, drawn.offsets)
    tile = GemmConfig(128, 128, 128, stages=3)
    fast, promoted = (
        relative_error(grouped_gemm(x, table, drawn.offsets, replace(tile, promote=promote)), exact)
        for promote in (0, 512)
    )
    assert promoted < fast / 2
    assert promoted <= largest_error(7168, 512, one_sign=True)
    assert fast <= largest_error(7168, one_sign=True)


def test_rows_of_no_expert_are_left_alone() -> None:
    case = case_of([300, 0, 200], 768, 256)
    x = torch.cat([case.x, case.x.new_full((1000, 768), math.nan)])
    rows = Rows(x, case.offsets).quantised()
    sorted_ones, expected = rows.x[:500].view(torch.uint8), quantise(case.x)
    assert rows.scales is not None
    assert torch.equal(sorted_ones, expected.values.view(torch.uint8))
    assert torch.equal(rows.scales[:500], expected.scales)
    tile = GemmConfig(128, 128, 128, stages=3)
    product = multiply(rows, case.table(), "product", tile)[:500]
    assert torch.equal(product, grouped_gemm(case.x, case.table(), case.offsets, tile))


@pytest.mark.parametrize("loads", ["reach", "each", "plain"])
@pytest.mark.parametrize("promote", [0, 256])
def test_each_way_of_loading_is_right_and_any_buffers_give_the_same_bits(loads: WeightLoads, promote: int) -> None:
    case = case_of(COUNTS["skewed"], 768, 528)
    config = GemmConfig(128, 128, 64, stages=3, weights=loads, promote=promote)
    one = grouped_gemm(case.x, case.table(), case.offsets, config)
    assert relative_error(one, exact_products(case.x, case.table(), case.offsets)) <= largest_error(768)
    for buffers in (1, 2, 4, 8):
        assert torch.equal(grouped_gemm(case.x, case.table(buffers), case.offsets, config), one), buffers


def layer_tables(case: RoutedCase, buffers: int) -> tuple[ExpertTable, ExpertTable]:
    packed = [pack_experts(quantise_experts(torch.stack(weights))) for weights in (case.w13, case.w2)]
    spread = [spread_over_buffers(list(each), buffers) for each in packed]
    hidden, inner = case.w2[0].shape
    return scaled_expert_table(spread[0], 2 * inner, hidden), scaled_expert_table(spread[1], hidden, inner)


@pytest.mark.parametrize(("tokens", "top_k", "experts", "hidden", "inner"), [(1, 1, 1, 16, 16), (500, 4, 16, 512, 272)])
def test_the_layer_equals_float64_of_the_quantised_from_any_buffers(
    tokens: int, top_k: int, experts: int, hidden: int, inner: int
) -> None:
    case = routed_case(tokens, top_k, experts, hidden, inner, torch.bfloat16, device="cuda")
    tables = layer_tables(case, 1)
    one = expert_mlp(*case[:3], *tables)
    exact = scaled_grouped_mlp(*case[:3], *(quantised_experts(table) for table in tables))
    # a sum off by a little rounds some elements to e4m3's other neighbour, a step of 1/8 (see bench_scaled_layer.py)
    assert relative_error(one, exact) <= 3e-2
    for buffers in (2, 4, 8):
        assert torch.equal(expert_mlp(*case[:3], *layer_tables(case, min(buffers, experts))), one)


def test_a_layer_gathers_in_either_way_to_the_same_bits() -> None:
    case = routed_case(300, 4, 16, 512, 256, torch.bfloat16, device="cuda")
    tables = layer_tables(case, 2)
    up = GemmConfig(128, 128, 128, stages=3)
    down = GemmConfig(128, 128, 128, stages=3)
    fused = expert_mlp(*case[:3], *tables, LayerConfig(up, down))
    assert torch.equal(fused, expert_mlp(*case[:3], *tables, LayerConfig(replace(up, gather="separate"), down)))


def test_nothing_makes_the_host_wait_and_a_graph_replays_it() -> None:
    case = routed_case(300, 4, 16, 256, 128, torch.bfloat16, device="cuda")
    tables = layer_tables(case, 2)
    expert_mlp(*case[:3], *tables)
    torch.cuda.set_sync_debug_mode("error")
    try:
        expert_mlp(*case[:3], *tables)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = expert_mlp(*case[:3], *tables)
    other = routed_case(300, 4, 16, 256, 128, torch.bfloat16, skew=4.0, seed=1, device="cuda")
    for mine, theirs in zip(case[:3], other[:3], strict=True):
        mine.copy_(theirs)
    graph.replay()
    assert torch.equal(out, expert_mlp(*case[:3], *tables))


@pytest.mark.parametrize("loads", ["reach", "each", "plain"])
def test_memcheck_scaled_grouped_gemm(loads: WeightLoads) -> None:
    case = case_of([70, 0, 1, 33], 80, 48)
    config = GemmConfig(64, 64, 64, warps=4, weights=loads)
    result = grouped_gemm(case.x, case.table(2), case.offsets, config)
    assert relative_error(result, exact_products(case.x, case.table(), case.offsets)) <= largest_error(80)


def test_memcheck_scaled_layer() -> None:
    case = routed_case(50, 2, 5, 80, 48, torch.bfloat16, device="cuda")
    tables = layer_tables(case, 2)
    exact = scaled_grouped_mlp(*case[:3], *(quantised_experts(table) for table in tables))
    assert relative_error(expert_mlp(*case[:3], *tables), exact) <= 3e-2
