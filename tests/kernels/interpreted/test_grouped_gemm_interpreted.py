"""The grouped GEMM's kernel against float64, for random shapes, skews, buffers and ways of loading."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from dwdp_kernels.expert_table import expert_table
from dwdp_kernels.gemm_config import Gather, GemmConfig, WeightLoads
from dwdp_kernels.grouped_gemm import (
    grouped_gemm,
    grouped_gemm_reference,
    grouped_swiglu,
    grouped_swiglu_reference,
)
from dwdp_kernels.routing import route_visits
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases import (
    counts_of_rows,
    fill_what_torch_empty_makes,
    grouped_case,
    relative_error,
    routed_case,
    spread_over_buffers,
)
from torch import Tensor

TYPES = [torch.float32, torch.float16]
LOADS: list[WeightLoads] = ["plain", "each", "reach"]
SIZES = st.sampled_from([16, 32, 48, 80])


def configs() -> st.SearchStrategy[GemmConfig]:
    """Small tiles of every kind, that divide shapes or do not."""
    return st.builds(
        GemmConfig,
        block_m=st.sampled_from([16, 32]),
        block_n=st.sampled_from([32, 64]),
        block_k=st.sampled_from([16, 32]),
        group_m=st.integers(1, 3),
        stores=st.sampled_from([1, 2]),
        weights=st.sampled_from(LOADS),
    )


def bound(dtype: torch.dtype) -> float:
    """A few roundings of the result, relative."""
    return 4 * torch.finfo(dtype).eps


@given(counts=counts_of_rows(), k=SIZES, n=SIZES, dtype=st.sampled_from(TYPES), config=configs(), data=st.data())
def test_equals_the_reference(
    counts: list[int], k: int, n: int, dtype: torch.dtype, config: GemmConfig, data: st.DataObject
) -> None:
    case = grouped_case(counts, k, n, dtype, data.draw(st.integers(0, 999)))
    weights = spread_over_buffers(case.weights, data.draw(st.integers(1, 4)))
    result = grouped_gemm(case.x, expert_table(weights), case.offsets, config)
    exact = grouped_gemm_reference(case.x.double(), [w.double() for w in case.weights], case.offsets)
    assert result.dtype == dtype
    assert relative_error(result, exact) <= bound(dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("loads", LOADS)
def test_one_buffer_or_several_the_same_bits(dtype: torch.dtype, loads: WeightLoads) -> None:
    case = grouped_case([5, 0, 33, 16, 1, 0, 20, 7], 48, 32, dtype)
    config = GemmConfig(16, 32, 32, weights=loads)
    one = grouped_gemm(case.x, expert_table(torch.stack(case.weights)), case.offsets, config)
    for buffers in (2, 4, 8):
        split = expert_table(spread_over_buffers(case.weights, buffers))
        assert torch.equal(grouped_gemm(case.x, split, case.offsets, config), one), buffers
        assert torch.equal(grouped_gemm(case.x, split, case.offsets, config), one), "a second run"


def test_all_ways_of_loading_give_the_same_bits() -> None:
    case = grouped_case([5, 0, 33, 16], 80, 48, torch.float16)
    table = expert_table(case.weights)
    results = [grouped_gemm(case.x, table, case.offsets, GemmConfig(16, 32, 32, weights=loads)) for loads in LOADS]
    assert all(torch.equal(result, results[0]) for result in results)


@pytest.mark.parametrize("loads", LOADS)
def test_rows_past_the_last_expert_are_not_written(loads: WeightLoads, monkeypatch: pytest.MonkeyPatch) -> None:
    case = grouped_case([7, 0, 12], 32, 48, torch.float32)
    padded = torch.cat([case.x, torch.full((9, 32), math.nan)])
    config = GemmConfig(16, 32, 16, weights=loads)
    with monkeypatch.context() as patch:
        fill_what_torch_empty_makes(patch, 7.0)
        result = grouped_gemm(padded, expert_table(case.weights), case.offsets, config)
    exact = grouped_gemm_reference(case.x.double(), [w.double() for w in case.weights], case.offsets)
    assert relative_error(result[:19], exact) <= bound(torch.float32)
    assert (result[19:] == 7).all()


def test_x_may_be_a_view() -> None:
    case = grouped_case([3, 4], 32, 16, torch.float16)
    table = expert_table(case.weights)
    wide = torch.zeros(7, 64, dtype=torch.float16)
    wide[:, 8:40] = case.x
    late = torch.zeros(7 * 32 + 1, dtype=torch.float16)[1:].view(7, 32)
    late.copy_(case.x)
    config = GemmConfig(16, 32, 32)
    expected = grouped_gemm(case.x, table, case.offsets, config)
    for view in (wide[:, 8:40], late):
        assert torch.equal(grouped_gemm(view, table, case.offsets, config), expected)


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
    chosen = GemmConfig(**{**config.__dict__, "gather": gather})
    result = grouped_swiglu(case.x, expert_table(spread_over_buffers(case.w13, 2)), routes, chosen)
    exact = grouped_swiglu_reference(case.x.double(), [w.double() for w in case.w13], routes)
    assert result.shape == (2 * tokens, inner)
    assert relative_error(result, exact) <= bound(dtype)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x, o: (x[:, :16], o), "32 columns"),
        (lambda x, o: (x.half(), o), "float16"),
        (lambda x, o: (x, o[:-1]), "3 of torch.int32"),
        (lambda x, o: (x, o.long()), "int64"),
        (lambda x, o: (x.flatten(), o), "32 columns"),
    ],
)
def test_what_does_not_fit_is_refused(change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], words: str) -> None:
    case = grouped_case([3, 4], 32, 48, torch.float32)
    x, offsets = change(case.x, case.offsets)
    with pytest.raises(ValueError, match=words):
        grouped_gemm(x, expert_table(case.weights), offsets)


def test_bf16_is_refused_where_the_interpreter_gets_it_wrong() -> None:
    case = grouped_case([3], 32, 16, torch.bfloat16)
    with pytest.raises(ValueError, match="bf16"):
        grouped_gemm(case.x, expert_table(case.weights), case.offsets)


def test_an_unmeasured_device_gets_a_configuration() -> None:
    case = grouped_case([3, 0, 70], 48, 80, torch.float16)
    exact = grouped_gemm_reference(case.x.double(), [w.double() for w in case.weights], case.offsets)
    assert relative_error(grouped_gemm(case.x, expert_table(case.weights), case.offsets), exact) <= bound(torch.float16)
