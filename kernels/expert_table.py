"""Where each expert's weights lie, for kernels: a table of addresses, in any number of buffers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

LARGEST_COORDINATE = 0x7FFF0000
"""TMA's coordinates are int32; Triton's own descriptors stay this far away from the end."""
LARGEST_STRIDE = 1 << 39
"""In bytes; CUDA's driver API asks for strides under 2**40."""
ALIGNMENT = 16
"""In bytes, what TMA and vector loads ask for."""


class ExpertTable(NamedTuple):
    """The addresses of the [rows, columns] weights of E experts. It keeps their tensors alive.

    `table` is int64 [2 + E] on their device: the lowest address, the unit in elements, and each address. The unit
    divides all distances between experts, so that one strided view from the lowest address reaches them all:
    expert e is entry (address - lowest) / unit of it. `reach` tells whether these entries fit a TMA coordinate.
    """

    table: Tensor
    reach: bool
    rows: int
    columns: int
    dtype: torch.dtype
    weights: tuple[Tensor, ...]
    scales: tuple[Tensor, ...] = ()
    """for weights in e4m3, each expert's [rows] fp32, right behind its weights in memory; none for other types"""

    @property
    def experts(self) -> int:
        """E."""
        return len(self.weights)


def expert_table(weights: Sequence[Tensor] | Tensor) -> ExpertTable:
    """The table of one [rows, columns] tensor per expert, each contiguous, all of one device, shape and type.

    One [E, rows, columns] is as good as E of them.

    Copies the addresses to the device, so build it once per set of buffers, not once per pass.
    Raises ValueError for weights that the kernels cannot read.
    """
    kept = tuple(weights.unbind(0)) if isinstance(weights, Tensor) else tuple(weights)
    if not kept:
        raise ValueError("a table of no experts: at least one weight is needed")
    first = kept[0]
    for expert, weight in enumerate(kept):
        if weight.dim() != 2 or (weight.shape, weight.dtype, weight.device) != (first.shape, first.dtype, first.device):
            raise ValueError(
                f"expert {expert}'s weight is {_told(weight)}, expert 0's {_told(first)}: [rows, columns] of one "
                "shape, type and device are needed"
            )
        if not weight.is_contiguous() or weight.data_ptr() % ALIGNMENT:
            raise ValueError(
                f"expert {expert}'s weight starts at {weight.data_ptr():#x} with strides {weight.stride()}: it has "
                f"to be contiguous and to start at a multiple of {ALIGNMENT} bytes"
            )
    if first.shape[0] % 16 or first.shape[1] % 16 or 0 in first.shape:
        raise ValueError(f"weights are {_told(first)}: rows and columns have to be multiples of 16")
    addresses = [weight.data_ptr() for weight in kept]
    lowest, unit = min(addresses), unit_bytes(addresses)
    table = torch.tensor([lowest, unit // first.element_size(), *addresses], dtype=torch.int64).to(first.device)
    reach = (max(addresses) - lowest) // unit < LARGEST_COORDINATE
    return ExpertTable(table, reach, first.shape[0], first.shape[1], first.dtype, kept)


def unit_bytes(addresses: Sequence[int]) -> int:
    """The largest distance, a multiple of 16 under 2**39 bytes, that divides all distances between the addresses.

    Experts of one buffer are an expert's size apart, and allocators align buffers, so it is large: with 64 KiB one
    TMA descriptor spans all 2**47 bytes that a process can address.
    """
    unit = math.gcd(*(address - addresses[0] for address in addresses)) or ALIGNMENT
    return unit if unit < LARGEST_STRIDE else math.gcd(unit, LARGEST_STRIDE // 2)


def _told(weight: Tensor) -> str:
    return f"{list(weight.shape)} {weight.dtype} on {weight.device}"
