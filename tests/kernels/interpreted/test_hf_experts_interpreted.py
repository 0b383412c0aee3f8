"""The experts of transformers' models by the kernels: what they give in plain torch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases import relative_error
from tiny_models import FAMILIES, tiny_model

from dwdp_lab.model.hf.expert_source import ExpertWeights, source_of
from dwdp_lab.model.hf.experts_module import experts_modules
from dwdp_lab.model.hf.routed_experts import by_kernels, plainly


@given(
    family=st.sampled_from(sorted(FAMILIES)),
    dtype=st.sampled_from([torch.float32, torch.float16]),
    tokens=st.integers(0, 20),
    seed=st.integers(0, 99),
)
def test_kernels_give_what_plain_torch_gives(family: str, dtype: torch.dtype, tokens: int, seed: int) -> None:
    module = next(iter(experts_modules(tiny_model(family, dtype, seed)).values()))
    random = torch.Generator().manual_seed(seed)
    experts = module.num_experts
    ids = torch.rand(tokens, experts + 1, generator=random).argsort(dim=1)[:, :2]  # the last is nobody's
    x, weights = torch.randn(tokens, 32, generator=random).to(dtype), torch.rand(tokens, 2, generator=random)
    results = []

    def compute(own: ExpertWeights) -> torch.Tensor:
        results.append(by_kernels(module, x, ids, weights, own))
        return plainly(module, x, ids, weights, own)

    with torch.inference_mode():
        expected = source_of(module).run(ids, compute)
    assert results[0].shape == expected.shape
    if tokens:
        assert relative_error(results[0], expected.double()) <= 8 * torch.finfo(dtype).eps


def test_sizes_that_the_kernels_cannot_take_are_named() -> None:
    weights = ExpertWeights(tuple(torch.zeros(2, 24, 16)), tuple(torch.zeros(2, 16, 12)))
    with pytest.raises(ValueError, match="multiples of 16"):
        _ = weights.tables
