"""Weights in e4m3: how far they are off, and the ranges of bytes that they are packed into."""

from __future__ import annotations

import math

import pytest
import torch
from dwdp_kernels.e4m3 import E4M3, LARGEST, largest_error, quantise
from dwdp_kernels.scaled_experts import (
    pack_experts,
    packed_bytes,
    quantise_experts,
    quantised_experts,
    scaled_expert_table,
    unpack_expert,
)
from dwdp_kernels.scaled_grouped_mlp import scaled_grouped_mlp
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases import relative_error, routed_case, spread_over_buffers
from torch import Tensor


def numbers_of_e4m3() -> Tensor:
    """All finite ones, sorted."""
    every = torch.arange(256, dtype=torch.uint8).view(E4M3).double()
    return every[every.isfinite()].unique()


@given(rows=st.integers(1, 9), columns=st.integers(1, 40), exponent=st.integers(-20, 20), seed=st.integers(0, 999))
def test_each_number_becomes_the_nearest_that_its_rows_scale_allows(
    rows: int, columns: int, exponent: int, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, columns, generator=random) ** 3 * 2.0**exponent
    made = quantise(x)
    assert torch.equal(made.values.double().abs().amax(1), torch.full((rows,), LARGEST, dtype=torch.float64))
    scaled = x.double() / made.scales.double()[:, None]
    off = (made.values.double() - scaled).abs()
    nearest = (numbers_of_e4m3()[:, None, None] - scaled).abs().amin(0)
    assert (off <= nearest + 1e-6 * scaled.abs()).all(), "up to fp32's rounding of the scaled number"


def test_a_row_of_zeros_stays_one_and_others_come_back_within_a_16th() -> None:
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(0)).abs() + 0.1
    x[2] = 0
    made = quantise(x)
    assert not made.exact()[2].any()
    assert made.scales.isfinite().all()
    assert ((made.exact() - x).abs() <= x / 16 * (1 + 1e-6)).all()
    assert relative_error(made.exact(), x) < 0.03


def test_what_is_not_finite_does_not_become_a_number() -> None:
    made = quantise(torch.tensor([[1.0, math.nan], [math.inf, 1.0], [1.0, 2.0]])).exact()
    assert made[0, 1].isnan()
    assert not made[1, 0].isfinite()
    assert made[2].tolist() == pytest.approx([1.0, 2.0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_experts_are_quantised_by_output_channel(dtype: torch.dtype) -> None:
    weights = torch.randn(3, 16, 32, generator=torch.Generator().manual_seed(1)).to(dtype)
    values, scales = quantise_experts(weights)
    assert (values.dtype, values.shape, scales.dtype, scales.shape) == (E4M3, (3, 16, 32), torch.float32, (3, 16))
    together = quantise(weights)
    assert torch.equal(values.view(torch.uint8), together.values.view(torch.uint8))
    assert torch.equal(scales, together.scales)


@given(
    experts=st.integers(1, 5),
    rows=st.integers(1, 5).map(lambda n: 16 * n),
    columns=st.integers(1, 5).map(lambda k: 16 * k),
    buffers=st.integers(1, 3),
)
def test_a_packed_expert_is_one_range_that_unpacks_without_a_copy(
    experts: int, rows: int, columns: int, buffers: int
) -> None:
    quantised = quantise_experts(torch.randn(experts, rows, columns))
    packed = pack_experts(quantised)
    assert packed.shape == (experts, packed_bytes(rows, columns))
    assert packed_bytes(rows, columns) % 16 == 0
    spread = spread_over_buffers(list(packed), buffers)
    table = scaled_expert_table(spread, rows, columns)
    assert (table.rows, table.columns, table.dtype) == (rows, columns, E4M3)
    for expert, found in enumerate(quantised_experts(table)):
        assert torch.equal(found.exact(), quantised.exact()[expert])
        assert found.values.data_ptr() == spread[expert].data_ptr() == int(table.table[2 + expert])
        assert found.scales.data_ptr() == found.values.data_ptr() + rows * columns


@pytest.mark.parametrize(
    ("packed", "words"),
    [
        (torch.zeros(16 * 20, dtype=torch.uint8), r"576 bytes .* for \[16, 32\]"),
        (torch.zeros(576, dtype=torch.int8), "torch.uint8"),
        (torch.zeros(1152, dtype=torch.uint8)[::2], "in one piece"),
        (torch.zeros(577, dtype=torch.uint8)[1:], "multiple of 16"),
        (torch.zeros(580, dtype=torch.uint8)[4:], "multiple of 16"),
    ],
)
def test_bytes_that_are_no_packed_expert_are_refused(packed: Tensor, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        scaled_expert_table([packed], 16, 32)


def test_unpacking_shares_the_bytes() -> None:
    packed = torch.zeros(packed_bytes(16, 16), dtype=torch.uint8)
    found = unpack_expert(packed, 16, 16)
    found.scales.fill_(1.0)
    assert packed[256:].view(torch.float32).tolist() == [1.0] * 16


def test_the_reference_computes_token_by_token() -> None:
    case = routed_case(9, 2, 4, 32, 16, torch.float32, seed=3)
    w13, w2 = (quantise_experts(torch.stack(weights)).exact() for weights in (case.w13, case.w2))
    x = quantise(case.x).exact()
    expected = torch.zeros(9, 32, dtype=torch.float64)
    for token in range(9):
        for expert, weight in zip(case.ids[token].tolist(), case.weights[token].double(), strict=True):
            gate, up = (w13[expert] @ x[token]).chunk(2)
            inner = (gate * gate.sigmoid() * up).float()
            expected[token] += weight * (w2[expert] @ quantise(inner).exact())
    quantised = (
        quantised_experts(scaled_expert_table(pack_experts(quantise_experts(torch.stack(weights))), *weights[0].shape))
        for weights in (case.w13, case.w2)
    )
    torch.testing.assert_close(scaled_grouped_mlp(*case[:3], *quantised), expected, rtol=1e-12, atol=1e-12)


def test_the_bound_of_sums_in_few_bits() -> None:
    assert largest_error(32) == pytest.approx(2**-8 + 2**-13)
    assert largest_error(4096) == pytest.approx(2**-8 + 2**-6)
    assert largest_error(4096, promote=512) == largest_error(512) < largest_error(4096)
    assert largest_error(256, promote=512) == largest_error(256)
    assert largest_error(4096, one_sign=True) == pytest.approx(2**-8 + 2**-1)
