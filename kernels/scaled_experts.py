"""Expert weights in e4m3 with a scale per output channel: quantised once, and packed so that one copy moves an expert.

A packed [N, K] weight is one range of N * (K + 4) bytes, whatever buffer it lies in:

    | N rows of K bytes of e4m3 | N scales of 4 bytes, fp32 |

With N and K multiples of 16 both parts, and the next weight behind, begin at multiples of 16 bytes: TMA reads the
first part as it is, and a kernel that knows a weight's address knows where its scales are. An expert's two weights,
packed one behind the other, are one range too.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from dwdp_kernels.e4m3 import E4M3, Quantised, quantise
from dwdp_kernels.expert_table import ExpertTable, expert_table
from torch import Tensor

SCALE_BYTES = 4


def packed_bytes(rows: int, columns: int) -> int:
    """Bytes of one packed [rows, columns] weight."""
    return rows * (columns + SCALE_BYTES)


def quantise_experts(weights: Tensor) -> Quantised:
    """weights [E, N, K] of any floating type as e4m3 [E, N, K] and scales [E, N]: a scale per output channel."""
    values = torch.empty(weights.shape, dtype=E4M3, device=weights.device)
    scales = torch.empty(weights.shape[:2], dtype=torch.float32, device=weights.device)
    for expert, weight in enumerate(weights):  # one by one: in fp32 all would take four times their memory
        values[expert], scales[expert] = quantise(weight)
    return Quantised(values, scales)


def pack_experts(quantised: Quantised) -> Tensor:
    """[E, N * (K + 4)] uint8: each expert's values, then its scales."""
    values, scales = (part.contiguous().view(torch.uint8).flatten(1) for part in quantised)
    return torch.cat([values, scales], dim=1)


def unpack_expert(packed: Tensor, rows: int, columns: int) -> Quantised:
    """The [rows, columns] weight that a range of bytes (uint8) holds, and its scales, without a copy.

    Raises ValueError for a range of another size, type or alignment.
    """
    if packed.dtype != torch.uint8 or packed.shape != (packed_bytes(rows, columns),) or not packed.is_contiguous():
        raise ValueError(
            f"a packed weight is {list(packed.shape)} {packed.dtype}: {packed_bytes(rows, columns)} bytes "
            f"(torch.uint8) in one piece are needed for [{rows}, {columns}]"
        )
    if packed.data_ptr() % SCALE_BYTES or packed.storage_offset() % SCALE_BYTES:
        raise ValueError(f"a packed weight starts at {packed.data_ptr():#x}: a multiple of 16 bytes is needed")
    values = packed[: rows * columns].view(E4M3).view(rows, columns)
    return Quantised(values, packed[rows * columns :].view(torch.float32))


def scaled_expert_table(packed: Sequence[Tensor] | Tensor, rows: int, columns: int) -> ExpertTable:
    """The table of one packed [rows, columns] weight per expert, in any buffers; see expert_table.

    Raises ValueError for weights that the kernels cannot read.
    """
    experts = [unpack_expert(expert, rows, columns) for expert in packed]
    table = expert_table([expert.values for expert in experts])
    return table._replace(scales=tuple(expert.scales for expert in experts))


def quantised_experts(table: ExpertTable) -> list[Quantised]:
    """The weights and scales that a table leads to, expert by expert."""
    return [Quantised(*each) for each in zip(table.weights, table.scales, strict=True)]
