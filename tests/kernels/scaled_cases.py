"""What the tests of the kernels in e4m3 compare with: float64 of what the quantised tensors stand for."""

from __future__ import annotations

from dwdp_kernels.e4m3 import quantise
from dwdp_kernels.expert_table import ExpertTable
from dwdp_kernels.grouped_gemm import grouped_gemm_reference
from dwdp_kernels.scaled_experts import quantised_experts
from torch import Tensor


def exact_products(x: Tensor, table: ExpertTable, offsets: Tensor) -> Tensor:
    """[R, N] float64: x [R, K], quantised row by row, times each expert's dequantised weights."""
    return grouped_gemm_reference(quantise(x).exact(), [each.exact() for each in quantised_experts(table)], offsets)
