"""Rows on their way between CPU ranks: bytes side by side, and what they were again."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dwdp_lab.execute.cpu.exchange_rows import outgoing, packed, unpacked


@pytest.mark.parametrize("scaled", [False, True])
@given(
    tokens=st.integers(0, 3),
    hidden=st.integers(1, 40),
    top_k=st.integers(1, 3),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_parts_of_any_types_and_widths_come_apart_again(
    scaled: bool, tokens: int, hidden: int, top_k: int, dtype: torch.dtype
) -> None:
    ids = torch.randint(0, 8, (tokens, top_k))
    parts = (*outgoing(torch.randn(tokens, hidden, dtype=dtype), scaled), ids, torch.rand(tokens, top_k).to(dtype))
    found = unpacked(packed(parts), parts)
    assert [part.dtype for part in found] == [part.dtype for part in parts]
    assert all(torch.equal(*pair) for pair in zip(found, parts, strict=True))
