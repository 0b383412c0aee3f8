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


def scaled_swiglu_mlp(x: Quantised, w13: Quantised, w2: Quantised, dtype: torch.dtype) -> Tensor:
    """w2 (silu(gate) * up) of x [R, H], w13 [2I, H], w2 [H, I], in a type that is not e4m3.

    The product of gate and up, once it is rounded to that type, is quantised again, each row by itself. Sums are fp32.
    scaled_grouped_mlp.py is the reference.
    """
    gate, up = scaled_linear(x, w13).chunk(2, dim=-1)
    inner = (functional.silu(gate) * up).to(dtype)
    if not inner.numel():  # a rank of `tensor` may have no column at all
        return torch.zeros(len(inner), len(w2.values), dtype=dtype, device=inner.device)
    return scaled_linear(quantise(inner), w2).to(dtype)


def scaled_linear(rows: Quantised, weight: Quantised) -> Tensor:
    """[R, N] fp32: rows [R, K] times weight [N, K], both multiplied by their scales at the end."""
    # fresh tensors, so that their alignment, and with it the order of sums, is the same wherever the weight lies
    product = functional.linear(in_fp32(rows.values), in_fp32(weight.values))
    return product * rows.scales[:, None] * weight.scales


def in_fp32(values: Tensor) -> Tensor:
    """The same numbers in fp32. On a CPU looked up: torch converts e4m3 one by one there, at 1/7 of the speed."""
    if values.device.type != "cpu":
        return values.float()
    return _NUMBERS.index_select(0, values.contiguous().view(torch.uint8).view(-1).int()).view(values.shape)
