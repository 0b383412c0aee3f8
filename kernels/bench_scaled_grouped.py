"""Operands of the grouped GEMM in e4m3, and its rivals: torch's own, a dense product, and ours in bf16."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from dwdp_kernels.bench_grouped import Operands, draw_tensors
from dwdp_kernels.bench_problems import GroupedShape
from dwdp_kernels.bench_timing import Run, dense_e4m3
from dwdp_kernels.e4m3 import E4M3, Quantised
from dwdp_kernels.expert_table import ExpertTable, expert_table
from dwdp_kernels.grouped_gemm import Rows, grouped_gemm
from dwdp_kernels.launch import Device, device_of
from dwdp_kernels.scaled_experts import pack_experts, quantise_experts, scaled_expert_table
from torch import Tensor


def draw_scaled_operands(
    shape: GroupedShape, wide: torch.dtype, skew: float, seed: int, device: torch.device
) -> Operands:
    """Random operands of type `wide`, quantised; rows too, since quantising them is no part of this product."""
    set_bytes = shape.moved_bytes(E4M3.itemsize, wide.itemsize)
    x, weights, offsets = draw_tensors(shape, wide, skew, seed, device, set_bytes)
    rows = [Rows(each, offsets).quantised() for each in x]
    quantised = [quantise_experts(each) for each in weights]
    tables = [expert_table(each) for each in weights]

    def table_of(packed: Sequence[Tensor] | Tensor) -> ExpertTable:
        return scaled_expert_table(packed, shape.n, shape.k)

    rivals: dict[str, Run] = {
        "dense": lambda i: dense_e4m3(rows[i % len(rows)].x, quantised[i % len(quantised)].values[0]),
        "ours_bf16": lambda i: grouped_gemm(x[i % len(x)], tables[i % len(tables)], offsets),
    }
    if torch_has_scaled_grouped_mm(device_of(rows[0].x)):
        rivals["torch"] = lambda i: torch_scaled_grouped_mm(rows[i % len(rows)], quantised[i % len(quantised)])
    return Operands(rows, [pack_experts(each) for each in quantised], table_of, rivals, (x[0], weights[0]))


def torch_scaled_grouped_mm(rows: Rows, weights: Quantised, fast: bool = True) -> Tensor:
    """torch's own grouped product in e4m3 with a scale per row and output channel; not public."""
    assert rows.scales is not None
    result: Tensor = torch._scaled_grouped_mm(
        rows.x,
        weights.values.transpose(-2, -1),
        rows.scales,
        weights.scales,
        offs=rows.offsets[1:],
        out_dtype=torch.bfloat16,
        use_fast_accum=fast,
    )
    return result


def torch_has_scaled_grouped_mm(device: Device) -> bool:
    """Whether torch has it, and for this device: Hopper, where it is known to run. What it refuses there is an error,
    and no rival fewer."""
    return hasattr(torch, "_scaled_grouped_mm") and device.capability == (9, 0)
