"""Rows of numbers in e4m3, an 8-bit float, with one fp32 scale each, in plain torch.

e4m3 (torch.float8_e4m3fn; OCP 8-bit Floating Point 1.0) has 4 bits of exponent and 3 of mantissa: the largest number is
448, the least of full precision 2**-6, and rounding moves a number by 1/16 of its size at most, by 2.6 % in the root
mean square. A row divided by its scale just fits.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

E4M3 = torch.float8_e4m3fn
LARGEST = 448.0
"""The largest number."""
LEAST_LARGEST = 1e-30
"""What the largest number of a row counts for at least: rows of zeros get a scale too, and its inverse is finite."""


class Quantised(NamedTuple):
    """Numbers as e4m3 times a scale per row."""

    values: Tensor
    """[..., K] e4m3"""
    scales: Tensor
    """[...] fp32"""

    def exact(self) -> Tensor:
        """[..., K] float64: the numbers that it stands for."""
        return self.values.double() * self.scales.double()[..., None]

    def taken(self, rows: Tensor) -> Quantised:
        """The rows [n] of [R, K], copied; as bytes, since torch cannot index e4m3 everywhere."""
        return Quantised(self.values.view(torch.uint8).index_select(0, rows).view(E4M3), self.scales[rows])


def quantise(x: Tensor) -> Quantised:
    """Each row of x [..., K], its largest magnitude to 448, rounded to the nearest, ties to even.

    A row that is not finite comes out as NaN, at least where it is not.
    """
    wide = x.float()
    scales = wide.abs().amax(-1).clamp(min=LEAST_LARGEST) * (1 / LARGEST)
    return Quantised((wide * scales.reciprocal()[..., None]).to(E4M3), scales)


def largest_error(k: int, promote: int = 0, one_sign: bool = False) -> float:
    """What a product over k columns may be off by, relative, in a result of bf16, on a GPU that sums with few bits.

    Hopper's tensor cores, and Ada's (SageAttention2, arXiv 2411.10958), add 32 products at a time to the sum so far.
    Of each they keep 13 bits behind the leading one of the largest, and cut off the rest (DeepSeek-V3, arXiv
    2412.19437, section 3.3.2): up to 2**-13 of the sum. Of products of one sign all are cut in the same direction, and
    k times that is the bound: an H200 was off by 12 % for k = 7168. In a network signs are mixed, and cuts towards zero
    from both sides nearly cancel: a 32nd of it is a wide bound then. Where fp32 goes on after `promote` columns, only
    those count. Rounding to bf16 adds 2**-8.
    """
    return 2.0**-8 + 2.0**-13 * (min(k, promote) if promote else k) / (1 if one_sign else 32)
