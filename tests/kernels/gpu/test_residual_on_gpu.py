"""Sums, additions and norms of rows on a real GPU: the bits of separate operations, whichever kernel made them.

A clean run of the `memcheck` ones under NVIDIA's memory checker:
compute-sanitizer --tool memcheck python -m pytest -m gpu tests/kernels/gpu -k memcheck
"""

from __future__ import annotations

import pytest
import torch
from dwdp_kernels import residual_reference as reference
from dwdp_kernels.residual import add_norm, combine, combine_norm, norm
from kernel_cases import relative_error
from residual_cases import EPS, ResidualCase, exact_norm, largest_error, residual_case
from torch import Tensor

pytestmark = pytest.mark.gpu

TYPES = [torch.bfloat16, torch.float16, torch.float32]
HIDDEN = [1, 72, 256, 2048, 2880, 7168]  # each is compiled anew, for each type
TOKENS = [0, 1, 7, 300]


def check(case: ResidualCase) -> None:
    """Everything against separate operations, bit for bit; sums and norms of their own against torch's."""
    weight, dtype = case.norm_weight, case.rows.dtype
    bound = (8 if dtype == torch.float32 else 1) * torch.finfo(dtype).eps
    total, normed = add_norm(case.before, case.shared, weight, EPS)
    assert torch.equal(total, case.before + case.shared)
    assert torch.equal(normed, norm(total, weight, EPS))
    assert largest_error(normed, exact_norm(total, weight)) <= bound
    routed = combine(*case[:3])
    assert relative_error(routed, reference.combine(*case[:3])) <= bound
    for shared in (None, case.shared):
        for before in (None, case.before):
            expected = routed if shared is None else routed + shared
            expected = expected if before is None else before + expected
            assert torch.equal(combine(*case[:3], shared, before), expected)
            total, normed = combine_norm(*case[:3], weight, EPS, shared, before)
            assert torch.equal(total, expected)
            assert torch.equal(normed, norm(expected, weight, EPS))
            assert torch.equal(normed, add_norm(expected, torch.zeros_like(expected), weight, EPS)[1])


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_every_kernel_gives_the_bits_of_separate_operations(hidden: int, dtype: torch.dtype) -> None:
    for tokens in TOKENS:
        check(residual_case(tokens, 8, hidden, dtype, device="cuda"))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("top_k", [1, 3])
def test_for_any_number_of_visits_and_large_values(top_k: int, dtype: torch.dtype) -> None:
    check(residual_case(33, top_k, 2048, dtype, scale=3000.0, device="cuda"))
    check(residual_case(33, top_k, 2048, dtype, left_out=1.0, device="cuda"))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("hidden", [2048, 2880])
def test_the_bits_do_not_depend_on_addresses_and_strides(hidden: int, dtype: torch.dtype) -> None:
    """A compiled kernel lays rows out by how they are aligned, and the order of a sum could follow from that."""
    case = residual_case(9, 4, hidden, dtype, device="cuda")
    expected = combine_norm(*case[:3], case.norm_weight, EPS, case.shared, case.before)
    for lay in (one_element_on, with_gaps):
        moved = ResidualCase(*(lay(x) for x in case))
        found = combine_norm(*moved[:3], moved.norm_weight, EPS, moved.shared, moved.before)
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(found, expected, strict=True))
        check(moved)


def one_element_on(x: Tensor) -> Tensor:
    return torch.cat([x.flatten()[:1], x.flatten()])[1:].view(x.shape)


def with_gaps(x: Tensor) -> Tensor:
    return torch.stack([x, x], -1)[..., 0]


def test_a_graph_replays_them_on_other_rows_and_nothing_makes_the_host_wait() -> None:
    case = residual_case(65, 8, 2048, torch.bfloat16, device="cuda")
    combine_norm(*case[:3], case.norm_weight, EPS, case.shared, case.before)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = combine_norm(*case[:3], case.norm_weight, EPS, case.shared, case.before)
    other = residual_case(65, 8, 2048, torch.bfloat16, seed=1, device="cuda")
    expected = combine_norm(*other[:3], other.norm_weight, EPS, other.shared, other.before)
    for mine, theirs in zip(case, other, strict=True):
        mine.copy_(theirs)
    graph.replay()
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(out, expected, strict=True))


@pytest.mark.parametrize("hidden", [72, 2880])
def test_memcheck_residual(hidden: int) -> None:
    check(residual_case(5, 3, hidden, torch.bfloat16, device="cuda"))
