"""The kernels with weights in e4m3 against float64 of what the quantised weights and rows stand for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from dwdp_kernels.e4m3 import E4M3, quantise
from dwdp_kernels.expert_mlp import LayerConfig, expert_mlp
from dwdp_kernels.expert_table import ExpertTable, expert_table
from dwdp_kernels.gemm_config import Gather, GemmConfig, WeightLoads
from dwdp_kernels.grouped_gemm import Rows, grouped_gemm, grouped_swiglu, grouped_swiglu_reference, multiply
from dwdp_kernels.grouped_mlp import grouped_mlp
from dwdp_kernels.launch import INTERPRETER, Device
from dwdp_kernels.quantise_rows import quantise_rows
from dwdp_kernels.routing import route_visits
from dwdp_kernels.scaled_experts import pack_experts, quantise_experts, quantised_experts, scaled_expert_table
from dwdp_kernels.scaled_grouped_mlp import scaled_grouped_mlp
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases import (
    RoutedCase,
    counts_of_rows,
    fill_what_torch_empty_makes,
    grouped_case,
    relative_error,
    routed_case,
    spread_over_buffers,
)
from scaled_cases import exact_products
from torch import Tensor

TYPES = [torch.float32, torch.float16]
LOADS: list[WeightLoads] = ["plain", "each", "reach"]
SIZES = st.sampled_from([16, 32, 48, 80])


def configs() -> st.SearchStrategy[GemmConfig]:
    """Small tiles of every kind, that divide shapes or do not, with and without sums that fp32 takes over."""
    made = st.builds(
        GemmConfig,
        block_m=st.sampled_from([16, 32]),
        block_n=st.sampled_from([32, 64]),
        block_k=st.sampled_from([16, 32]),
        group_m=st.integers(1, 3),
        stores=st.sampled_from([1, 2]),
        weights=st.sampled_from(LOADS),
    )
    return st.tuples(made, st.integers(0, 2)).map(lambda both: replace(both[0], promote=both[1] * both[0].block_k))


def packed_table(weights: Sequence[Tensor], buffers: int) -> ExpertTable:
    packed = pack_experts(quantise_experts(torch.stack(list(weights))))
    return scaled_expert_table(spread_over_buffers(list(packed), buffers), *weights[0].shape)


def layer_tables(case: RoutedCase, buffers: int) -> tuple[ExpertTable, ExpertTable]:
    return packed_table(case.w13, buffers), packed_table(case.w2, buffers)


def exact_layer(case: RoutedCase) -> Tensor:
    tables = layer_tables(case, 1)
    return scaled_grouped_mlp(*case[:3], *(quantised_experts(table) for table in tables))


@given(
    rows=st.integers(0, 20),
    columns=st.sampled_from([1, 16, 40, 300]),
    size=st.floats(1e-6, 1e2),
    dtype=st.sampled_from(TYPES),
    seed=st.integers(0, 999),
)
def test_rows_are_quantised_to_the_very_numbers_that_torch_makes(
    rows: int, columns: int, size: float, dtype: torch.dtype, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    # cubed: some far smaller than the largest, which become numbers of less than full precision
    x = (torch.randn(rows, columns, generator=random) ** 3 * size).to(dtype)
    x[::5] = 0
    made, expected = quantise_rows(x), quantise(x)
    assert (made.values.dtype, made.scales.dtype) == (E4M3, torch.float32)
    assert torch.equal(made.scales, expected.scales)
    assert torch.equal(made.exact(), expected.exact())


@pytest.mark.parametrize("belonging", [0, 5, 9])
def test_rows_of_no_expert_are_not_quantised(belonging: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an all-gather all but a rank's own share of the visits are such."""
    x = torch.randn(9, 48)
    x[belonging:] = 0.0
    offsets = torch.tensor([0, belonging // 2, belonging], dtype=torch.int32)
    fill_what_torch_empty_makes(monkeypatch, 5.0)
    rows = Rows(x, offsets).quantised()
    assert rows.scales is not None
    assert torch.equal(rows.scales[:belonging], quantise(x[:belonging]).scales)
    assert rows.scales[belonging:].eq(5.0).all()
    assert rows.x[belonging:].float().eq(5.0).all()
    gathered = Rows(x, offsets, torch.arange(9, dtype=torch.int32)).quantised()
    assert gathered.scales is not None
    assert torch.equal(gathered.scales, quantise(x).scales), "which of them belong to nobody is not known before"


@given(counts=counts_of_rows(), k=SIZES, n=SIZES, dtype=st.sampled_from(TYPES), config=configs(), data=st.data())
def test_grouped_gemm_equals_float64_of_the_quantised(
    counts: list[int], k: int, n: int, dtype: torch.dtype, config: GemmConfig, data: st.DataObject
) -> None:
    case = grouped_case(counts, k, n, dtype, data.draw(st.integers(0, 999)))
    table = packed_table(case.weights, data.draw(st.integers(1, 4)))
    result = grouped_gemm(case.x, table, case.offsets, config)
    assert result.dtype == dtype
    assert relative_error(result, exact_products(case.x, table, case.offsets)) <= 4 * torch.finfo(dtype).eps


@given(
    tokens=st.integers(0, 30),
    hidden=SIZES,
    inner=st.sampled_from([16, 48]),
    dtype=st.sampled_from(TYPES),
    config=configs(),
    gather=st.sampled_from(["fused", "separate"]),
    seed=st.integers(0, 999),
)
def test_swiglu_over_gathered_rows(
    tokens: int, hidden: int, inner: int, dtype: torch.dtype, config: GemmConfig, gather: Gather, seed: int
) -> None:
    case = routed_case(tokens, 2, 5, hidden, inner, dtype, skew=2.0, seed=seed)
    routes = route_visits(case.ids, 5)
    table = packed_table(case.w13, 2)
    result = grouped_swiglu(case.x, table, routes, replace(config, gather=gather))
    weights = [each.exact() for each in quantised_experts(table)]
    exact = grouped_swiglu_reference(quantise(case.x).exact(), weights, routes)
    assert result.shape == (2 * tokens, inner)
    assert relative_error(result, exact) <= 4 * torch.finfo(dtype).eps


@given(
    tokens=st.integers(0, 30),
    experts=st.integers(1, 8),
    hidden=st.sampled_from([16, 48, 64]),
    inner=st.sampled_from([16, 32, 80]),
    skew=st.sampled_from([0.0, 2.0, 8.0]),
    dtype=st.sampled_from(TYPES),
    loads=st.sampled_from(LOADS),
    data=st.data(),
)
def test_the_layer_equals_float64_of_the_quantised(
    tokens: int,
    experts: int,
    hidden: int,
    inner: int,
    skew: float,
    dtype: torch.dtype,
    loads: WeightLoads,
    data: st.DataObject,
) -> None:
    top_k = data.draw(st.integers(1, min(experts, 4)))
    case = routed_case(tokens, top_k, experts, hidden, inner, dtype, skew, data.draw(st.integers(0, 999)))
    tables = layer_tables(case, data.draw(st.integers(1, 4)))
    up, down = GemmConfig(16, 64, 32, 2, weights=loads), GemmConfig(32, 32, 16, 2, weights=loads)
    result = expert_mlp(*case[:3], *tables, LayerConfig(up, down))
    assert (result.shape, result.dtype) == (case.x.shape, dtype)
    # now and then fp32 and float64 round an element between the products to different neighbours in e4m3
    assert relative_error(result, exact_layer(case)) <= 1e-2
    if tokens:
        wide = ([w.double() for w in weights] for weights in (case.w13, case.w2))
        unquantised = grouped_mlp(case.x.double(), case.ids, case.weights.double(), *wide)
        assert 1e-3 < relative_error(result, unquantised) < 0.15


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("tokens", [0, 30])
def test_rows_that_come_quantised_give_the_same_bits(dtype: torch.dtype, tokens: int) -> None:
    """As they do where they were sent so; some visits are to experts that are elsewhere."""
    case = routed_case(tokens, 2, 4, 48, 32, dtype)
    ids, tables = case.ids - 1, layer_tables(case, 2)
    whole = expert_mlp(case.x, ids, case.weights, *tables)
    sent = expert_mlp(quantise_rows(case.x), ids, case.weights, *tables)
    assert sent.dtype == dtype
    assert torch.equal(sent, whole)


def test_the_same_bits_from_run_to_run_and_from_any_buffers() -> None:
    case = routed_case(40, 3, 8, 48, 32, torch.float32)
    one = expert_mlp(*case[:3], *layer_tables(case, 1))
    for buffers in (1, 2, 4, 8):
        assert torch.equal(expert_mlp(*case[:3], *layer_tables(case, buffers)), one)


def test_both_weights_of_an_expert_in_one_range_of_bytes() -> None:
    case = routed_case(20, 2, 4, 48, 32, torch.float32)
    both = [pack_experts(quantise_experts(torch.stack(weights))) for weights in (case.w13, case.w2)]
    pulled = torch.cat(both, dim=1).clone()  # an expert is a row: what one copy moves
    cut = both[0].shape[1]
    tables = scaled_expert_table(pulled[:, :cut], 64, 48), scaled_expert_table(pulled[:, cut:], 48, 32)
    assert torch.equal(expert_mlp(*case[:3], *tables), expert_mlp(*case[:3], *layer_tables(case, 1)))


def test_quantised_rows_may_be_given() -> None:
    case = grouped_case([5, 0, 9], 48, 32, torch.float16)
    table = packed_table(case.weights, 2)
    rows = Rows(case.x, case.offsets)
    assert torch.equal(multiply(rows.quantised(), table, "product"), multiply(rows, table, "product"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows._replace(x=rows.x.int()), "int32"),
        (lambda rows: rows._replace(x=rows.x[:, :32]), "48 columns"),
        (lambda rows: rows.quantised()._replace(dtype=None), "the result None"),
        (lambda rows: rows.quantised()._replace(scales=rows.x[:3, 0].float()), r"scales \[3\]"),
        (lambda rows: rows.quantised()._replace(x=rows.x), "float16, its scales"),
    ],
)
def test_rows_that_do_not_fit_are_refused(change: Callable[[Rows], Rows], words: str) -> None:
    case = grouped_case([5, 0, 9], 48, 32, torch.float16)
    with pytest.raises(ValueError, match=words):
        multiply(change(Rows(case.x, case.offsets)), packed_table(case.weights, 1), "product")


def test_weights_without_their_scales_are_refused() -> None:
    case = grouped_case([5], 48, 32, torch.float16)
    bare = expert_table(quantise_experts(torch.stack(case.weights)).values)
    with pytest.raises(ValueError, match="scaled_expert_table"):
        grouped_gemm(case.x, bare, case.offsets)


def test_a_gpu_without_e4m3_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    case = grouped_case([5], 48, 32, torch.float16)
    table = packed_table(case.weights, 1)
    ampere = Device("An A100", (8, 0), 108)
    monkeypatch.setattr("dwdp_kernels.quantise_rows.device_of", lambda _: ampere)
    with pytest.raises(ValueError, match=r"An A100 has 8\.0"):
        grouped_gemm(case.x, table, case.offsets)
    assert INTERPRETER.capability < (8, 9), "which plays e4m3 all the same"
