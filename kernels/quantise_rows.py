"""Activations to e4m3 by one kernel, with a scale per row. The plain-torch reference is e4m3.quantise."""

from __future__ import annotations

import torch
import triton
from dwdp_kernels.e4m3 import E4M3, LARGEST, LEAST_LARGEST, Quantised
from dwdp_kernels.launch import device_of, launch
from dwdp_kernels.quantise_kernel import quantise_kernel
from torch import Tensor

COLUMNS_PER_WARP = 1024
"""32 a thread: a row stays in registers between the search for its largest number and its scaling."""


def quantise_rows(x: Tensor, end: Tensor | None = None) -> Quantised:
    """x [R, K] as e4m3 [R, K] and scales [R], bit for bit what e4m3.quantise gives for finite rows.

    `end` [1] (int32, on x's device): rows from there on are not read, and undefined in what is returned. Raises
    ValueError for a GPU without e4m3.
    """
    check_e4m3(x)
    rows, columns = x.shape
    values = torch.empty(rows, columns, dtype=E4M3, device=x.device)
    scales = torch.empty(rows, dtype=torch.float32, device=x.device)
    if x.numel():
        block = int(triton.next_power_of_2(columns))
        launch(
            quantise_kernel,
            (rows,),
            x,
            x.contiguous(),
            values,
            scales,
            scales if end is None else end,
            columns,
            LEAST_LARGEST,
            1 / LARGEST,
            BLOCK=block,
            ROUND=device_of(x).capability < (9, 0),
            UP_TO_END=end is not None,
            num_warps=min(max(1, block // COLUMNS_PER_WARP), 16),
        )
    return Quantised(values, scales)


def check_e4m3(x: Tensor) -> None:
    """Raises ValueError where Triton's kernels have no e4m3: on GPUs before Ada and Hopper."""
    device = device_of(x)
    if device.capability < (8, 9) and not device.is_interpreter:
        raise ValueError(
            f"e4m3 weights need a GPU of compute capability 8.9 or later, and {device.name} has "
            f"{device.capability[0]}.{device.capability[1]}: use weights in bf16 there"
        )
