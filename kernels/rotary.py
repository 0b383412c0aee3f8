"""Rotary positions applied in place, in one pass over queries and keys. Beside it the plain-torch reference."""

from __future__ import annotations

import torch
import triton
from dwdp_kernels.launch import device_of, launch
from dwdp_kernels.rotary_kernel import rotary_kernel
from torch import Tensor

HEADS = 4
"""Heads that one program turns."""


def rotate_in_place(x: Tensor, cos: Tensor, sin: Tensor) -> None:
    """Turn element i and element i + D / 2 of each head by the i-th angle, in fp32, rounded once to x's type.

    x is [T, heads, D], D even, tokens any distance apart and heads close together; cos and sin are [T, D / 2] fp32.
    Raises ValueError for tensors that do not fit.
    """
    _check(x, cos, sin)
    tokens, heads, size = x.shape
    if not x.numel():
        return
    device_of(x)
    half = size // 2
    launch(
        rotary_kernel,
        (tokens, triton.cdiv(heads, HEADS)),
        x,
        x,
        cos,
        sin,
        heads,
        x.stride(0),
        HALF=half,
        PADDED=triton.next_power_of_2(half),
        HEADS=HEADS,
    )


def rotate_in_place_reference(x: Tensor, cos: Tensor, sin: Tensor) -> None:
    """What rotate_in_place does."""
    _check(x, cos, sin)
    first, second = x.float().chunk(2, dim=-1)
    cos, sin = cos[:, None], sin[:, None]
    x.copy_(torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1))


def _check(x: Tensor, cos: Tensor, sin: Tensor) -> None:
    fits = x.dim() == 3 and x.shape[2] % 2 == 0 and cos.shape == sin.shape == (x.shape[0], x.shape[2] // 2)
    if not fits or x.stride()[1:] != (x.shape[2], 1):
        raise ValueError(
            f"x is {list(x.shape)} with strides {x.stride()}, the angles {list(cos.shape)} and {list(sin.shape)}: "
            "[T, heads, D] with dense heads, and [T, D / 2] are needed"
        )
    if not (cos.is_contiguous() and sin.is_contiguous()) or {cos.dtype, sin.dtype} != {torch.float32}:
        raise ValueError(f"angles are {cos.dtype} and {sin.dtype}: both contiguous in torch.float32 are needed")
