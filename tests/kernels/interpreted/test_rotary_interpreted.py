"""Positions turned in place, against plain torch."""

from __future__ import annotations

import pytest
import torch
from dwdp_kernels.rotary import rotate_in_place, rotate_in_place_reference
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor


def angles(tokens: int, half: int) -> tuple[Tensor, Tensor]:
    turned = torch.rand(tokens, half) * 7
    return turned.cos(), turned.sin()


@given(
    tokens=st.integers(0, 7),
    heads=st.integers(1, 9),
    more=st.integers(0, 3),
    half=st.sampled_from([1, 8, 12, 64]),
    dtype=st.sampled_from([torch.float32, torch.float16]),
)
def test_queries_and_keys_are_turned_and_values_are_not(
    tokens: int, heads: int, more: int, half: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(tokens * 100 + heads)
    whole = torch.randn(tokens, heads + more, 2 * half, dtype=dtype)
    expected, (cos, sin) = whole.clone(), angles(tokens, half)
    rotate_in_place_reference(expected[:, :heads], cos, sin)
    rotate_in_place(whole[:, :heads], cos, sin)
    assert torch.allclose(whole, expected, rtol=0, atol=4 * torch.finfo(dtype).eps)
    assert torch.equal(whole[:, heads:], expected[:, heads:])


def test_refused() -> None:
    cos, sin = angles(3, 8)
    for x in (torch.ones(3, 2, 15), torch.ones(3, 16), torch.ones(2, 2, 16), torch.ones(3, 16, 2).mT):
        with pytest.raises(ValueError, match="needed"):
            rotate_in_place(x, cos, sin)
    with pytest.raises(ValueError, match="float32"):
        rotate_in_place(torch.ones(3, 2, 16), cos.double(), sin.double())
