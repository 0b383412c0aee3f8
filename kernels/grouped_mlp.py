"""The routed experts of one MoE layer: a SwiGLU MLP per expert over the rows that chose it, in plain torch.

Weights come as one tensor per expert. Where they lie is nobody's business here: local experts and pulled ones
may sit in different buffers (DWDP's `split` view), and the result is the same bit for bit. Weights in e4m3 with
their scales are multiplied as scaled_mlp.py says.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from dwdp_kernels.e4m3 import Quantised, quantise
from dwdp_kernels.scaled_mlp import scaled_swiglu_mlp
from torch import Tensor
from torch.nn import functional

Weight = Tensor | Quantised
"""[N, K], plain or in e4m3 with a scale per row."""
Rows = Tensor | Quantised
"""What goes into experts, [R, K]; for weights in e4m3 it may be quantised already, row by row."""


class ExpertRows(NamedTuple):
    """What experts gave, sorted by expert, and where each visit finds its row: what residual.combine sums up."""

    rows: Tensor
    """[R, H]; undefined where no visit's row is"""
    row_of_visit: Tensor
    """[T, k] int32, -1 for a visit to no expert"""


# CPU and GPU matrix products pick their code by how their operands are aligned, and sum in another order then
_ALIGNMENT_BYTES = 64


def grouped_mlp(x: Rows, ids: Tensor, weights: Tensor, w13: Sequence[Weight], w2: Sequence[Weight]) -> Tensor:
    """[T, H]: for each row of x [T, H] the sum over j of weights[t, j] * MLP_ids[t, j](x[t]).

    ids and weights are [T, k]; w13[e] is [2I, H] (gate, then up), w2[e] is [H, I].
    """
    order, offsets = sort_by_expert(ids, len(w13))
    rows = expert_rows(rows_of(x, order // ids.shape[1]), offsets, w13, w2, weights.dtype)
    return weighted_sum(rows[order.argsort()].view(*ids.shape, rows.shape[1]), weights)


def rows_of(x: Rows, rows: Tensor) -> Rows:
    """The rows [n] of x [R, K], copied."""
    return x.taken(rows) if isinstance(x, Quantised) else x[rows]


def sort_by_expert(ids: Tensor, experts: int) -> tuple[Tensor, list[int]]:
    """The order that sorts the T * k visits by expert, and the E + 1 offsets of the experts' rows in it.

    Entry p of the order is visit (p // k, p % k). Visits of one expert stay in the order of their tokens.
    """
    visits = ids.reshape(-1)
    counts = torch.bincount(visits, minlength=experts)
    return visits.argsort(stable=True), [0, *counts.cumsum(0).tolist()]


def expert_rows(
    x: Rows,
    offsets: Sequence[int] | Tensor,
    w13: Sequence[Weight],
    w2: Sequence[Weight],
    dtype: torch.dtype | None = None,
) -> Tensor:
    """[R, H]: rows offsets[e] to offsets[e + 1] of x [R, H] through expert e's MLP, in x's type.

    For quantised rows `dtype` tells the type.

    An expert's rows come out the same, bit for bit, whatever the other experts do and whichever buffer holds
    its weights. Raises ValueError when offsets, weights and rows do not fit together.
    """
    ends = offsets.tolist() if isinstance(offsets, Tensor) else list(offsets)
    shape, kind = (x.values.shape, dtype) if isinstance(x, Quantised) else (x.shape, x.dtype)
    if len(ends) != len(w13) + 1 or len(w13) != len(w2) or ends[0] != 0 or ends[-1] != shape[0]:
        raise ValueError(
            f"offsets 0 to R, one more than experts, are needed; got {len(ends)} offsets from {ends[0]} to "
            f"{ends[-1]} for {shape[0]} rows, {len(w13)} w13 and {len(w2)} w2"
        )
    results = [
        _expert_mlp(_between(x, start, end), w13[expert], w2[expert], kind)
        for expert, (start, end) in enumerate(itertools.pairwise(ends))
        if start < end
    ]
    device = (x.values if isinstance(x, Quantised) else x).device
    return torch.cat(results) if results else torch.empty(shape, dtype=kind, device=device)


def _between(x: Rows, start: int, end: int) -> Rows:
    return Quantised(*(part[start:end] for part in x)) if isinstance(x, Quantised) else x[start:end]


def _expert_mlp(x: Rows, w13: Weight, w2: Weight, dtype: torch.dtype | None) -> Tensor:
    """Rows x [R, H] through one expert's MLP. Raises TypeError for scales that are missing somewhere."""
    if isinstance(w13, Quantised) and isinstance(w2, Quantised):
        if dtype is None:
            raise TypeError("quantised rows do not tell the result's type: give `dtype`")
        return scaled_swiglu_mlp(x if isinstance(x, Quantised) else quantise(x), w13, w2, dtype)
    if isinstance(w13, Quantised) or isinstance(w2, Quantised) or isinstance(x, Quantised):
        raise TypeError("an expert's weights have scales, both of them, or neither they nor the rows: one is mixed up")
    return swiglu_mlp(x, w13, w2)


def expert_product(x: Tensor, offsets: Sequence[int], weights: Sequence[Tensor]) -> Tensor:
    """[R, N]: rows offsets[e] to offsets[e + 1] of x [R, K] times expert e's weight [N, K], whatever its buffer."""
    results = [
        functional.linear(_aligned(x[start:end]), _aligned(weights[expert]))
        for expert, (start, end) in enumerate(itertools.pairwise(offsets))
        if start < end
    ]
    return torch.cat(results) if results else x.new_empty(0, len(weights[0]))


def swiglu_mlp(x: Tensor, w13: Tensor, w2: Tensor) -> Tensor:
    """w2 (silu(gate) * up) of x [R, H], w13 [2I, H], w2 [H, I]; weights of another type are cast to x's."""
    x, w13, w2 = _aligned(x), _aligned(w13.to(x.dtype)), _aligned(w2.to(x.dtype))
    gate, up = functional.linear(x, w13).chunk(2, dim=-1)
    return functional.linear(functional.silu(gate) * up, w2)


def weighted_sum(rows: Tensor, weights: Tensor) -> Tensor:
    """[T, H]: the sum over j of weights[:, j] * rows[:, j], rows [T, k, H], in the order of j and in fp32."""
    total = torch.zeros(rows.shape[0], rows.shape[2], dtype=torch.float32, device=rows.device)
    for j in range(rows.shape[1]):
        total.addcmul_(rows[:, j].float(), weights[:, j, None].float())
    return total.to(rows.dtype)


def _aligned(x: Tensor) -> Tensor:
    """x itself where it is contiguous and well aligned, otherwise a copy that is."""
    if x.is_contiguous() and x.data_ptr() % _ALIGNMENT_BYTES == 0:
        return x
    return x.clone(memory_format=torch.contiguous_format)
