"""What the fused layer computes with weights in e4m3, in plain torch and float64: the slow obvious version."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from dwdp_kernels.e4m3 import Quantised, quantise
from dwdp_kernels.grouped_mlp import sort_by_expert
from torch import Tensor
from torch.nn import functional


def scaled_grouped_mlp(
    x: Tensor, ids: Tensor, weights: Tensor, w13: Sequence[Quantised], w2: Sequence[Quantised]
) -> Tensor:
    """[T, H] float64: for each row of x [T, H] the sum over j of weights[t, j] * MLP_ids[t, j](x[t]).

    As grouped_mlp.grouped_mlp, with w13[e] and w2[e] dequantised, and with what goes into each product rounded as the
    kernels round it: x to e4m3; the product of gate and up to x's type, and then to e4m3. Nothing else is rounded.
    """
    order, offsets = sort_by_expert(ids, len(w13))
    rows = quantise(x[order // ids.shape[1]]).exact()
    results = torch.zeros_like(rows)
    for expert, (start, end) in enumerate(itertools.pairwise(offsets)):
        if start < end:
            gate, up = functional.linear(rows[start:end], w13[expert].exact()).chunk(2, dim=-1)
            inner = quantise((functional.silu(gate) * up).to(x.dtype)).exact()
            results[start:end] = functional.linear(inner, w2[expert].exact())
    return (results[order.argsort()].view(*ids.shape, x.shape[1]) * weights.double()[..., None]).sum(1)
