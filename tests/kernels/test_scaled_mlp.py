"""What CPU ranks compute with weights in e4m3, against the slow float64 version."""

from __future__ import annotations

import pytest
import torch
from dwdp_kernels.e4m3 import E4M3, Quantised, quantise
from dwdp_kernels.grouped_mlp import expert_rows, grouped_mlp
from dwdp_kernels.scaled_experts import pack_experts, quantise_experts, unpack_expert
from dwdp_kernels.scaled_grouped_mlp import scaled_grouped_mlp
from dwdp_kernels.scaled_mlp import in_fp32, scaled_linear, scaled_swiglu_mlp
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases import RoutedCase, relative_error, routed_case, spread_over_buffers

E4M3_STEP = 1 / 8


def quantised(case: RoutedCase) -> tuple[list[Quantised], list[Quantised]]:
    w13, w2 = ([quantise(weight) for weight in weights] for weights in (case.w13, case.w2))
    return w13, w2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@given(tokens=st.integers(0, 20), top_k=st.integers(1, 4), inner=st.sampled_from([16, 48, 80]), seed=st.integers(0, 99))
def test_it_equals_float64_of_the_quantised(dtype: torch.dtype, tokens: int, top_k: int, inner: int, seed: int) -> None:
    """A deviation of d rounds d / s of the elements to e4m3's other neighbour, a step s away: sqrt(d s) in all. Sums
    in fp32 and silu are off by some of fp32's roundings, which the result's own rounding comes after."""
    case = routed_case(tokens, top_k, 4, 32, inner, dtype, seed=seed)
    result = grouped_mlp(*case[:3], *quantised(case))
    assert result.dtype == dtype
    exact = scaled_grouped_mlp(*case[:3], *quantised(case))
    moved = torch.finfo(torch.float32).eps if dtype == torch.float32 else torch.finfo(dtype).eps / 64
    allowed = 2 * torch.finfo(dtype).eps + (moved * E4M3_STEP) ** 0.5 + E4M3_STEP / 2 / inner**0.5
    assert relative_error(result, exact) <= allowed


def test_products_of_e4m3_are_exact_up_to_sums_in_fp32() -> None:
    x = torch.randn(30, 512, generator=torch.Generator().manual_seed(0))
    weight = quantise(torch.randn(48, 512, generator=torch.Generator().manual_seed(1)))
    exact = quantise(x).exact() @ weight.exact().T
    assert relative_error(scaled_linear(quantise(x), weight), exact) < 1e-6


def test_all_numbers_of_e4m3_are_looked_up_as_they_are() -> None:
    every = torch.arange(256, dtype=torch.uint8).view(16, 16).t().view(E4M3)
    torch.testing.assert_close(in_fp32(every), every.float(), rtol=0, atol=0, equal_nan=True)


def test_rows_come_out_the_same_from_any_buffers_and_beside_any_others() -> None:
    case = routed_case(40, 2, 4, 48, 32, torch.bfloat16)
    packed = [pack_experts(quantise_experts(torch.stack(weights))) for weights in (case.w13, case.w2)]
    sizes = [tuple(weights[0].shape) for weights in (case.w13, case.w2)]
    offsets = [0, 7, 7, 30, 40]
    one = expert_rows(case.x, offsets, *quantised(case))
    for buffers in (1, 2, 4):
        spread = [spread_over_buffers(list(each), buffers) for each in packed]
        found = ([unpack_expert(each, *size) for each in part] for part, size in zip(spread, sizes, strict=True))
        assert torch.equal(expert_rows(case.x, offsets, *found), one)
    w13, w2 = (part[2] for part in quantised(case))
    assert torch.equal(one[7:30], scaled_swiglu_mlp(quantise(case.x[7:30]), w13, w2, torch.bfloat16))


def test_rows_that_come_quantised_give_the_same() -> None:
    case = routed_case(40, 2, 4, 48, 32, torch.bfloat16)
    whole = grouped_mlp(*case[:3], *quantised(case))
    assert torch.equal(grouped_mlp(quantise(case.x), *case[1:3], *quantised(case)), whole)
    order = torch.randperm(40)
    assert torch.equal(quantise(case.x).taken(order).exact(), quantise(case.x[order]).exact())
    with pytest.raises(TypeError, match="give `dtype`"):
        expert_rows(quantise(case.x), [0, 40, 40, 40, 40], *quantised(case))


def test_a_row_of_zeros_and_no_columns_give_zeros() -> None:
    w13, w2 = quantise(torch.ones(32, 16)), quantise(torch.ones(16, 16))
    assert not scaled_swiglu_mlp(quantise(torch.zeros(3, 16)), w13, w2, torch.float32).any()
    rows, none = (
        quantise(torch.ones(3, 16)),
        (Quantised(w13.values[:0], w13.scales[:0]), Quantised(w2.values[:, :0], w2.scales)),
    )
    assert torch.equal(scaled_swiglu_mlp(rows, *none, torch.float32), torch.zeros(3, 16))


def test_scales_belong_to_both_weights_of_an_expert() -> None:
    x, w13, w2 = torch.ones(1, 16), torch.ones(32, 16), torch.ones(16, 16)
    for rows, *mixed in ((x, quantise(w13), w2), (x, w13, quantise(w2)), (quantise(x), w13, w2)):
        with pytest.raises(TypeError, match="one is mixed up"):
            expert_rows(rows, [0, 1], *([each] for each in mixed), dtype=torch.float32)
