"""Sums of expert rows, residual additions and norms by kernels: bit for bit what separate operations give."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from dwdp_kernels import residual_reference as reference
from dwdp_kernels.residual import add_norm, combine, combine_norm, norm
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases import relative_error
from residual_cases import EPS, ResidualCase, exact_norm, largest_error, residual_case
from torch import Tensor

TYPES = [torch.float32, torch.float16]
CASES = st.builds(
    residual_case,
    tokens=st.integers(0, 7),
    top_k=st.integers(1, 4),
    hidden=st.sampled_from([1, 7, 16, 40, 64, 100]),
    dtype=st.sampled_from(TYPES),
    left_out=st.sampled_from([0.0, 0.3, 1.0]),
    scale=st.sampled_from([1e-3, 1.0, 300.0]),
    seed=st.integers(0, 999),
)


def separately(case: ResidualCase, shared: bool, before: bool) -> Tensor:
    """combine alone, and what torch adds to it."""
    total = combine(*case[:3])
    if shared:
        total = total + case.shared
    return case.before + total if before else total


@given(case=CASES)
def test_a_norm_is_the_exact_one_rounded_once(case: ResidualCase) -> None:
    found = norm(case.before, case.norm_weight, EPS)
    assert (found.shape, found.dtype) == (case.before.shape, case.before.dtype)
    bound = torch.finfo(found.dtype).eps
    assert largest_error(found, exact_norm(case.before, case.norm_weight)) <= 4 * bound
    assert largest_error(found, reference.norm(case.before, case.norm_weight, EPS)) <= 4 * bound


@given(case=CASES)
def test_adding_and_norming_at_once_gives_the_bits_of_doing_it_one_by_one(case: ResidualCase) -> None:
    total, normed = add_norm(case.before, case.shared, case.norm_weight, EPS)
    assert torch.equal(total, case.before + case.shared)
    assert torch.equal(normed, norm(total, case.norm_weight, EPS))


@given(case=CASES, shared=st.booleans(), before=st.booleans())
def test_combining_adds_what_is_given_with_the_bits_of_torch(case: ResidualCase, shared: bool, before: bool) -> None:
    given = {"shared": case.shared if shared else None, "before": case.before if before else None}
    expected = separately(case, shared, before)
    assert torch.equal(combine(*case[:3], **given), expected)
    total, normed = combine_norm(*case[:3], case.norm_weight, EPS, **given)
    assert torch.equal(total, expected)
    assert torch.equal(normed, norm(expected, case.norm_weight, EPS))


@given(case=CASES, shared=st.booleans(), before=st.booleans())
def test_the_reference_is_close(case: ResidualCase, shared: bool, before: bool) -> None:
    """Where it adds up products it may round them otherwise."""
    given = {"shared": case.shared if shared else None, "before": case.before if before else None}
    bound = 4 * torch.finfo(case.rows.dtype).eps
    expected = reference.combine_norm(*case[:3], case.norm_weight, EPS, **given)
    found = combine_norm(*case[:3], case.norm_weight, EPS, **given)
    assert relative_error(found[0], expected[0]) <= bound
    assert relative_error(found[1], expected[1]) <= bound
    assert torch.equal(expected[0], reference.combine(*case[:3], **given))
    assert torch.equal(expected[1], reference.norm(expected[0], case.norm_weight, EPS))
    added = reference.add_norm(case.before, case.shared, case.norm_weight, EPS)
    assert torch.equal(added[0], case.before + case.shared)
    assert torch.equal(added[1], reference.norm(added[0], case.norm_weight, EPS))


@pytest.mark.parametrize("dtype", TYPES)
def test_visits_to_no_expert_count_for_nothing(dtype: torch.dtype) -> None:
    """Neither their rows nor their weights, both of which are NaN here."""
    case = residual_case(5, 3, 40, dtype, left_out=1.0)
    for module in (combine, reference.combine):
        assert torch.equal(module(*case[:3]), torch.zeros_like(case.before))
        assert torch.equal(module(*case[:3], before=case.before), case.before)


def test_each_addition_is_rounded() -> None:
    """2048 + 1 is 2048 in fp16; without rounding in between, 2048 + 1 + 1 would be 2050."""
    one = torch.ones(1, 1, dtype=torch.float16)
    visit = torch.zeros(1, 1, dtype=torch.int32)
    assert combine(one, visit, one, shared=2048 * one, before=one).tolist() == [[2048.0]]
    assert combine(one, visit, one, shared=one, before=2048 * one).tolist() == [[2050.0]]


def test_a_norm_is_of_the_rounded_sum() -> None:
    """Elements 2048 + 1 and 2048 are alike in fp16, so their norms are 1."""
    before, added = torch.full((1, 2), 2048.0).half(), torch.tensor([[1.0, 0.0]]).half()
    total, normed = add_norm(before, added, torch.ones(2).half(), 0.0)
    assert total.tolist() == [[2048.0, 2048.0]]
    assert normed.tolist() == [[1.0, 1.0]]


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning", "ignore:invalid value:RuntimeWarning")
def test_large_values_and_what_overflows_stay_in_their_row() -> None:
    weight = torch.ones(8, dtype=torch.float16)
    before = torch.stack([torch.full((8,), 60000.0), torch.ones(8)]).half()
    assert norm(before, weight, EPS).tolist() == [[1.0] * 8] * 2
    total, normed = add_norm(before, before, weight, EPS)
    assert total[0].isinf().all()
    assert normed[0].isnan().all()
    assert normed[1].tolist() == [1.0] * 8


@pytest.mark.parametrize("dtype", TYPES)
def test_tensors_may_lie_anyhow(dtype: torch.dtype) -> None:
    """Transposed, with gaps, and at addresses that 16 bytes do not divide."""
    case = residual_case(5, 3, 24, dtype)

    def moved(x: Tensor) -> Tensor:
        return torch.cat([x.flatten()[:1], x.flatten()])[1:].view(x.shape)

    def transposed(x: Tensor) -> Tensor:
        return x.mT.contiguous().mT

    def gaps(x: Tensor) -> Tensor:
        return torch.cat([x, x], -1)[:, : x.shape[-1]]

    expected = combine_norm(*case[:3], case.norm_weight, EPS, case.shared, case.before)
    added = add_norm(case.before, case.shared, case.norm_weight, EPS)
    for lay in (moved, transposed, gaps):
        rows, row_of_visit, weights, shared, before = (lay(x) for x in case[:5])
        weight = moved(case.norm_weight)
        found = combine_norm(rows, row_of_visit, weights, weight, EPS, shared, before)
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(found, expected, strict=True))
        found = add_norm(before, shared, weight, EPS)
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(found, added, strict=True))


def test_no_columns_and_no_rows_to_visit() -> None:
    nothing = torch.ones(3, 0)
    assert norm(nothing, torch.ones(0), EPS).shape == (3, 0)
    visits = torch.full((2, 2), -1, dtype=torch.int32)
    assert torch.equal(combine(torch.ones(0, 5), visits, torch.ones(2, 2)), torch.zeros(2, 5))
    assert torch.equal(combine(torch.ones(0, 5), visits[:, :0], torch.ones(2, 0)), torch.zeros(2, 5))


X, WEIGHT, VISITS, WEIGHTS = torch.ones(3, 4), torch.ones(4), torch.zeros(3, 2, dtype=torch.int32), torch.ones(3, 2)


@pytest.mark.parametrize(
    "module",
    [
        (norm, add_norm, combine, combine_norm),
        (reference.norm, reference.add_norm, reference.combine, reference.combine_norm),
    ],
    ids=["kernels", "reference"],
)
def test_what_does_not_fit_is_refused(module: tuple[Callable[..., object], ...]) -> None:
    norm, add_norm, combine, combine_norm = module
    for call, told in (
        (lambda: norm(X, torch.ones(5), EPS), "x is [3, 4] and the norm's weight [5]: [T, H] and [H] are needed"),
        (lambda: norm(X[0], WEIGHT, EPS), "x is [4]"),
        (lambda: norm(X.double(), WEIGHT, EPS), "x has torch.float64: one of torch.bfloat16"),
        (lambda: norm(X.half(), WEIGHT, EPS), "the norm's weight has torch.float32 on cpu: torch.float16 on cpu"),
        (lambda: add_norm(X, X[:2], WEIGHT, EPS), "before is [3, 4] and added [2, 4]"),
        (lambda: add_norm(X, X.half(), WEIGHT, EPS), "added has torch.float16"),
        (lambda: add_norm(X, X, torch.ones(3), EPS), "the norm's weight [3]"),
        (lambda: combine(X, VISITS, WEIGHTS[:2]), "rows are [3, 4], row_of_visit [3, 2] and weights [2, 2]"),
        (lambda: combine(X, VISITS.long(), WEIGHTS), "row_of_visit is torch.int64: torch.int32, -1 for none"),
        (lambda: combine(X, VISITS, WEIGHTS, X[:2]), "shared is [2, 4]: [T, H] is needed, which is [3, 4] here"),
        (lambda: combine(X, VISITS, WEIGHTS, before=X.half()), "before has torch.float16 on cpu"),
        (lambda: combine_norm(X, VISITS, WEIGHTS, torch.ones(3), EPS), "the norm's weight [3]"),
    ):
        with pytest.raises(ValueError, match=re.escape(told)):
            call()
