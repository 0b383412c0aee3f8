"""The fused layer against the plain-torch experts, in float64."""

from __future__ import annotations

import pytest
import torch
from dwdp_kernels.expert_mlp import LayerConfig, expert_mlp
from dwdp_kernels.expert_table import expert_table
from dwdp_kernels.gemm_config import GemmConfig, WeightLoads
from dwdp_kernels.grouped_mlp import grouped_mlp, weighted_sum
from dwdp_kernels.residual import combine
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases import RoutedCase, relative_error, routed_case, spread_over_buffers
from torch import Tensor

TYPES = [torch.float32, torch.float16]


def small(weights: WeightLoads) -> LayerConfig:
    return LayerConfig(GemmConfig(16, 64, 32, 2, weights=weights), GemmConfig(32, 32, 16, 2, weights=weights))


def exact(case: RoutedCase) -> Tensor:
    wide = ([w.double() for w in weights] for weights in (case.w13, case.w2))
    return grouped_mlp(case.x.double(), case.ids, case.weights.double(), *wide)


def fused(case: RoutedCase, buffers: int, config: LayerConfig | None) -> Tensor:
    tables = (expert_table(spread_over_buffers(weights, buffers)) for weights in (case.w13, case.w2))
    return expert_mlp(case.x, case.ids, case.weights, *tables, config)


@given(
    tokens=st.integers(0, 30),
    experts=st.integers(1, 8),
    hidden=st.sampled_from([16, 48, 64]),
    inner=st.sampled_from([16, 32, 80]),
    skew=st.sampled_from([0.0, 2.0, 8.0]),
    dtype=st.sampled_from(TYPES),
    buffers=st.integers(1, 4),
    loads=st.sampled_from(["plain", "each", "reach"]),
    data=st.data(),
)
def test_equals_the_plain_torch_experts(
    tokens: int,
    experts: int,
    hidden: int,
    inner: int,
    skew: float,
    dtype: torch.dtype,
    buffers: int,
    loads: WeightLoads,
    data: st.DataObject,
) -> None:
    top_k = data.draw(st.integers(1, min(experts, 4)))
    case = routed_case(tokens, top_k, experts, hidden, inner, dtype, skew, data.draw(st.integers(0, 999)))
    result = fused(case, min(buffers, experts), small(loads))
    assert (result.shape, result.dtype) == (case.x.shape, dtype)
    assert relative_error(result, exact(case)) <= 4 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", TYPES)
def test_the_same_bits_from_run_to_run_and_from_any_buffers(dtype: torch.dtype) -> None:
    case = routed_case(40, 3, 8, 48, 32, dtype)
    one = fused(case, 1, small("reach"))
    for buffers in (1, 2, 4, 8):
        assert torch.equal(fused(case, buffers, small("reach")), one)


def test_the_configuration_is_chosen_when_none_is_given() -> None:
    case = routed_case(20, 2, 4, 32, 16, torch.float32)
    assert relative_error(fused(case, 2, None), exact(case)) < 1e-6


def test_an_id_that_is_no_expert_counts_for_nothing() -> None:
    """Whatever its weight. The bits need not be those of a weight of zero: fewer rows are multiplied, so a row has
    another place in its tile, and the interpreter multiplies tiles by BLAS, where the place can change the rounding.
    """
    case = routed_case(12, 2, 4, 32, 16, torch.float32)
    without = case._replace(weights=case.weights.clone())
    without.weights[::3, 1] = 0
    skipped = case._replace(ids=case.ids.clone(), weights=case.weights.clone())
    skipped.ids[::3, 1] = 4
    skipped.ids[::6, 1] = -1
    skipped.weights[::3, 1] = 1e3
    assert relative_error(fused(skipped, 1, small("plain")), exact(without)) < 1e-6


def test_no_token_reaches_any_expert() -> None:
    case = routed_case(5, 2, 4, 32, 16, torch.float32)
    assert not fused(case._replace(ids=torch.full_like(case.ids, 4)), 1, small("reach")).any()


@given(
    tokens=st.integers(0, 9),
    top_k=st.integers(1, 4),
    hidden=st.sampled_from([1, 16, 40]),
    dtype=st.sampled_from(TYPES),
    seed=st.integers(0, 999),
)
def test_combining_is_the_weighted_sum_of_the_reference(
    tokens: int, top_k: int, hidden: int, dtype: torch.dtype, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    rows = torch.randn(tokens * top_k, hidden, generator=random).to(dtype)
    row_of_visit = torch.randperm(tokens * top_k, generator=random).view(tokens, top_k).int()
    weights = torch.rand(tokens, top_k, generator=random).to(dtype)
    expected = weighted_sum(rows[row_of_visit.long().flatten()].view(tokens, top_k, hidden), weights)
    torch.testing.assert_close(combine(rows, row_of_visit, weights), expected, rtol=torch.finfo(dtype).eps, atol=1e-6)


def test_a_tokens_terms_are_added_in_their_order() -> None:
    rows = torch.tensor([[1e8], [1.0], [-1e8]])
    for order, expected in (([0, 1, 2], 0.0), ([0, 2, 1], 1.0)):  # (1e8 + 1) - 1e8 is 0 in fp32
        assert combine(rows, torch.tensor([order], dtype=torch.int32), torch.ones(1, 3)).tolist() == [[expected]]


def test_what_does_not_fit_is_refused() -> None:
    case = routed_case(6, 2, 4, 32, 16, torch.float32)
    w13, w2 = expert_table(case.w13), expert_table(case.w2)
    with pytest.raises(ValueError, match=r"\[T, k\]"):
        expert_mlp(case.x, case.ids[:-1], case.weights, w13, w2)
    with pytest.raises(ValueError, match=r"\[2I, H\]"):
        expert_mlp(case.x, case.ids, case.weights, w2, w13)
    with pytest.raises(ValueError, match=r"\[2I, H\]"):
        expert_mlp(case.x, case.ids, case.weights, w13, expert_table(case.w2[:3]))
