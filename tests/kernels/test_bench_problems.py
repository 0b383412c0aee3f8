"""What the kernel benchmark measures with: rows, routings and buffers; and the limit."""

from __future__ import annotations

import pytest
import torch
from dwdp_kernels.bench_problems import (
    GROUPED_SHAPES,
    GroupedShape,
    LayerShape,
    in_buffers,
    skewed_offsets,
    skewed_routing,
)
from hypothesis import given
from hypothesis import strategies as st


@given(
    experts=st.integers(1, 64), rows=st.integers(1, 3000), skew=st.sampled_from([0.0, 0.5, 5.0]), seed=st.integers(0, 9)
)
def test_every_row_goes_to_an_expert(experts: int, rows: int, skew: float, seed: int) -> None:
    offsets = skewed_offsets(GroupedShape(experts, rows, 16, 16), skew, torch.Generator().manual_seed(seed))
    assert (offsets.dtype, len(offsets)) == (torch.int32, experts + 1)
    assert (int(offsets[0]), int(offsets[-1])) == (0, rows)
    assert (offsets.diff() >= 0).all()


def test_skew_makes_some_experts_busier() -> None:
    shape = GroupedShape(64, 65536, 16, 16)
    even, skewed = (skewed_offsets(shape, skew, torch.Generator().manual_seed(0)).diff().max() for skew in (0.0, 1.0))
    assert even < 1.2 * 1024
    assert skewed > 2 * 1024


def test_a_token_visits_different_experts() -> None:
    shape = LayerShape("some", 16, 4, 32, 16, 200)
    ids, weights = skewed_routing(shape, 0.5, torch.Generator().manual_seed(0))
    assert ids.shape == weights.shape == (200, 4)
    assert all(len(set(row)) == 4 for row in ids.tolist())
    torch.testing.assert_close(weights.sum(1), torch.ones(200))


@pytest.mark.parametrize("buffers", [1, 2, 4, 8])
def test_split_weights_are_the_same_in_so_many_buffers(buffers: int) -> None:
    weights = torch.randn(6, 16, 32)
    split = in_buffers(weights, buffers)
    assert torch.equal(torch.stack(split), weights)
    assert len({weight.untyped_storage().data_ptr() for weight in split}) == min(buffers, 6)


def test_work_is_counted_once() -> None:
    shape = GroupedShape(experts=3, rows=5, k=16, n=32)
    assert shape.flops == 2 * 5 * 16 * 32
    assert shape.moved_bytes(2) == 2 * (5 * 16 + 5 * 32 + 3 * 16 * 32)
    assert shape.moved_bytes(1, 2) == 5 * 16 + 2 * 5 * 32 + 3 * 16 * 32
    layer = LayerShape("some", experts=4, top_k=2, hidden=32, inner=16, tokens=10)
    assert layer.flops == 10 * 2 * (2 * 32 * 32 + 2 * 16 * 32)
    assert layer.moved_bytes(2) == 2 * (4 * (32 * 32 + 16 * 32) + 2 * 10 * 32)
    assert layer.moved_bytes(1, 2) == 4 * (32 * 32 + 16 * 32) + 2 * 2 * 10 * 32


def test_the_limit_is_the_slower_of_computing_and_moving() -> None:
    pytest.importorskip("triton")
    from dwdp_kernels.bench_timing import Ceilings

    ceilings = Ceilings(tflops=500, gbps=2000)
    assert ceilings.limit_us(flops=5e9, moved_bytes=2e6) == pytest.approx(10)
    assert ceilings.limit_us(flops=5e8, moved_bytes=2e8) == pytest.approx(100)


def test_the_usual_shapes_fit_the_kernels() -> None:
    assert all(shape.k % 16 == 0 and shape.n % 16 == 0 for shape in GROUPED_SHAPES)
