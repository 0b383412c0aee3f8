"""The rounding bound and the comparison that uses it."""

from __future__ import annotations

import math

import pytest
import torch
from any_decoder import small_shape

from dwdp_lab.model.rounding import OracleMismatch, compare, error_bound, relative_error


def test_the_bound_follows_type_and_depth() -> None:
    fp32, bf16, fp16 = (error_bound(small_shape(precision)) for precision in ("fp32", "bf16", "fp16"))
    assert bf16 == pytest.approx(8 * fp16, rel=1e-3)  # 8 and 11 bits of significand
    assert fp32 < fp16 / 1000  # 24 bits, and longer sums
    assert error_bound(small_shape("bf16", layers=8)) == pytest.approx(2 * bf16, rel=0.02)
    assert error_bound(small_shape(hidden=1024)) > error_bound(small_shape())
    assert error_bound(small_shape("bf16", expert_dtype="fp32")) > bf16


def test_rounding_to_e4m3_counts_by_its_deviation() -> None:
    """2.55 %, twice in each layer with experts, beside what is there without; a little for sums of few bits."""
    for precision in ("fp32", "fp16", "bf16"):
        plain = error_bound(small_shape(precision, layers=5, dense_layers=2, dense_intermediate=24))
        fields = {"layers": 5, "dense_layers": 2, "dense_intermediate": 24, "expert_dtype": "fp8_channel"}
        scaled = error_bound(small_shape(precision, **fields))
        assert scaled**2 - plain**2 == pytest.approx(9 * 3 * 2 * 0.0255**2, rel=0.03)
    columns = torch.rand(1 << 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 1
    off = columns.float().to(torch.float8_e4m3fn).double() / columns - 1
    assert off.square().mean().sqrt() == pytest.approx(0.0255, rel=0.01)


def test_what_was_rounded_to_is_named() -> None:
    exact = torch.ones(4, 32, dtype=torch.float64)
    with pytest.raises(OracleMismatch, match="rounding in bf16 and e4m3 explains"):
        compare(2 * exact, exact, small_shape("bf16", expert_dtype="fp8_channel"))


def test_the_relative_error_is_of_the_largest_elements() -> None:
    exact = torch.tensor([[1.0, -4.0], [2.0, 0.0]], dtype=torch.float64)
    assert relative_error(exact + torch.tensor([[0.0, 0.0], [0.0, -0.5]]), exact) == 0.125
    assert relative_error(torch.empty(0, 3), torch.empty(0, 3, dtype=torch.float64)) == 0.0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_compare_draws_the_line_at_the_bound(precision: str) -> None:
    shape = small_shape(precision)
    exact = torch.randn(20, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    largest, bound = float(exact.abs().max()), error_bound(shape)
    off = exact.clone()
    off[13, 2] += 0.99 * bound * largest
    assert compare(off, exact, shape) == pytest.approx(0.99 * bound)
    off[13, 2] += 0.02 * bound * largest
    with pytest.raises(OracleMismatch, match="token 13") as caught:
        compare(off, exact, shape)
    assert f"{1.01 * bound:.3g}" in str(caught.value)
    assert f"{bound:.3g}" in str(caught.value)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_a_number_is_no_agreement(value: float) -> None:
    exact = torch.ones(4, 3, dtype=torch.float64)
    broken = exact.clone()
    broken[2, 0] = value
    with pytest.raises(OracleMismatch, match="token 2"):
        compare(broken, exact, small_shape())


def test_unequal_sizes_are_no_agreement() -> None:
    with pytest.raises(OracleMismatch, match=r"size \(3, 2\), the oracle's \(2, 2\)"):
        compare(torch.ones(3, 2), torch.ones(2, 2), small_shape())
