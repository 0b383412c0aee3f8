"""Experts chosen from logits, against plain torch."""

from __future__ import annotations

import pytest
import torch
from dwdp_kernels.choice import choose_experts, choose_experts_reference
from hypothesis import given
from hypothesis import strategies as st


@given(
    tokens=st.integers(0, 9),
    experts=st.integers(1, 40),
    share=st.floats(0.01, 1.0),
    levels=st.sampled_from([3, 1000]),
    normalise=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
)
def test_the_best_are_chosen_and_weighed(
    tokens: int, experts: int, share: float, levels: int, normalise: bool, dtype: torch.dtype
) -> None:
    """With few levels there are many equal scores."""
    top_k = max(1, round(share * experts))
    torch.manual_seed(tokens * 100 + experts)
    logits = torch.randint(levels, (tokens, experts)) * (8.0 / levels) - 4.0
    bias = torch.randint(levels, (experts,)) * (2.0 / levels)
    ids, weights = choose_experts(logits, bias, top_k, normalise, dtype)
    expected, shares = choose_experts_reference(logits, bias, top_k, normalise, dtype)
    assert ids.dtype == torch.int32
    assert torch.equal(ids, expected)
    assert weights.dtype == dtype
    assert torch.allclose(weights.double(), shares.double(), rtol=2 * torch.finfo(dtype).eps, atol=1e-7)


def test_refused() -> None:
    logits, bias = torch.zeros(3, 4), torch.zeros(4)
    for arguments in ((logits, bias, 5), (logits, bias, 0), (logits, torch.zeros(5), 1), (bias, bias, 1)):
        with pytest.raises(ValueError, match="needed"):
            choose_experts(*arguments, True, torch.float32)
    with pytest.raises(ValueError, match="float32"):
        choose_experts(logits.half(), bias, 1, True, torch.float32)
