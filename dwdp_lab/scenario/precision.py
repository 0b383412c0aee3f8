"""Bytes of weights in the number formats they are kept in."""

from __future__ import annotations

from typing import Literal

Precision = Literal["fp32", "bf16", "fp16", "fp8", "mxfp4", "nvfp4"]
"""Formats whose bytes follow from the number of parameters alone; also what products are computed in."""
ExpertPrecision = Literal["fp32", "bf16", "fp16", "fp8", "fp8_channel", "mxfp4", "nvfp4"]
"""What routed experts may be kept in. `fp8_channel` is e4m3 with one fp32 scale per output channel, a matrix's row."""

CHANNEL_SCALE_BYTES = 4

# (bytes of one element, elements that share a block scale, bytes of the scale); no scale: block of 0
# fp8   DeepSeek-V3's 128 x 128 blocks, one fp32 scale each (arXiv 2412.19437, section 3.3)
# mxfp4 32-element blocks, one 8-bit exponent each (OCP Microscaling Formats 1.0)
# nvfp4 16-element blocks, one fp8 scale each (NVIDIA Blackwell; the paper's 0.5625 B follows from it)
FORMATS: dict[Precision, tuple[float, int, float]] = {
    "fp32": (4.0, 0, 0.0),
    "bf16": (2.0, 0, 0.0),
    "fp16": (2.0, 0, 0.0),
    "fp8": (1.0, 128 * 128, 4.0),
    "mxfp4": (0.5, 32, 1.0),
    "nvfp4": (0.5, 16, 1.0),
}

BYTES_PER_PARAM: dict[Precision, float] = {
    name: element + (scale / block if block else 0.0) for name, (element, block, scale) in FORMATS.items()
}


def computed_in(kept: ExpertPrecision) -> Precision:
    """The format whose rate a product with such weights has."""
    return "fp8" if kept == "fp8_channel" else kept


def scaled_bytes(rows: int, columns: int) -> int:
    """Bytes of a [rows, columns] matrix in `fp8_channel`: its rows' elements, then its rows' scales.

    >>> scaled_bytes(1536, 2048)
    3151872
    """
    return rows * (columns + CHANNEL_SCALE_BYTES)
