"""One expert's MLP with weights in e4m3, in plain torch: what CPU ranks compute, by the definition of the kernels.

Numbers in e4m3 are numbers in fp32 too, so products of them are exact there, and only their sums are rounded.
"""

from __future__ import annotations

import torch
from dwdp_kernels.e4m3 import E4M3, Quantised, quantise
from torch import Tensor
from torch.nn import functional

_NUMBERS = torch.arange(256, dtype=torch.uint8).view(E4M3).float()
"""All of e4m3, by their bits."""


def scaled_swiglu_mlp(x: Tensor, w13: Quantised, w2: Quantised) -> Tensor:
    """w2 (silu(gate) * up) of x [R, H], w13 [2I, H], w2 [H, I], in x's type.

    Rows of x, and of the product of gate and up once it is rounded to x's type, are quantised each by itself. Sums are
    fp32. scaled_grouped_mlp.py is the reference.
    """
    gate, up = scaled_linear(x, w13).chunk(2, dim=-1)
    return scaled_linear((functional.silu(gate) * up).to(x.dtype), w2).to(x.dtype)


def scaled_linear(x: Tensor, weight: Quantised) -> Tensor:
    """[R, N] fp32: x [R, K], quantised row by row, times weight [N, K], both multiplied by their scales at the end."""
    if not x.numel():  # a rank of `tensor` may have no column at all
        return torch.zeros(len(x), len(weight.values), device=x.device)
    rows = quantise(x)
    # fresh tensors, so that their alignment, and with it the order of sums, is the same wherever the weight lies
    product = functional.linear(in_fp32(rows.values), in_fp32(weight.values))
    return product * rows.scales[:, None] * weight.scales


def in_fp32(values: Tensor) -> Tensor:
    """The same numbers in fp32. On a CPU looked up: torch converts e4m3 one by one there, at 1/7 of the speed."""
    if values.device.type != "cpu":
        return values.float()
    return _NUMBERS.index_select(0, values.contiguous().view(torch.uint8).view(-1).int()).view(values.shape)
