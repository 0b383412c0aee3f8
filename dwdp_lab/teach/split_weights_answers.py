"""One right answer to each exercise of the lesson on split weights; the kernel is in table_gemm_kernel.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from dwdp_lab.scenario.model_shape import ModelShape


def view_costs(shape: ModelShape, local: int, view: str) -> tuple[float, float]:
    if view == "merged":
        return shape.experts * shape.expert_bytes, 2 * local * shape.expert_bytes  # read and written
    return (shape.experts - local) * shape.expert_bytes, 0


def pieces(start: int, end: int, nbytes: int, page: int) -> list[tuple[int, int, str]]:
    found = []
    for first in range(0, nbytes, page):
        last = first + page
        if start <= first and last <= end:
            kind = "own"
        elif last <= start or first >= end:
            kind = "slot"
        else:
            kind = "copied"  # bytes of both kinds
        found.append((first, last, kind))
    return found


def sort_rows(ids: Tensor, experts: int) -> tuple[Tensor, Tensor]:
    import torch

    visits = ids.flatten()
    counts = torch.bincount(visits, minlength=experts)
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return visits.argsort(stable=True) // ids.shape[1], offsets
