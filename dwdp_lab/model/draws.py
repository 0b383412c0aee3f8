"""Random numbers by coordinate: any rank, on any device, draws the same value for the same place on its own.

A value is a hash of its stream's key and of its counter (counter-based generation, as in Salmon et al.,
"Parallel random numbers: as easy as 1, 2, 3", SC 2011), here with a 32-bit integer mixer. Integers, one
conversion and one product are all it takes, so a CPU and a GPU agree bit for bit, which torch's generators
do not.
"""

from __future__ import annotations

import hashlib
import math
from typing import NamedTuple

import torch
from torch import Tensor

# values made at a time: on a CPU the intermediate integers should stay in the cache
_CPU_BLOCK = 1 << 17
_DEVICE_BLOCK = 1 << 26


class Stream(NamedTuple):
    """The key of a stream of draws, as two signed 32-bit words."""

    first: int
    second: int


def stream(*coordinates: int | str) -> Stream:
    """The stream that belongs to these coordinates, such as `stream("expert", seed, layer, expert)`."""
    digest = hashlib.blake2b("/".join(map(str, coordinates)).encode(), digest_size=8).digest()
    first, second = (int.from_bytes(word, "little", signed=True) for word in (digest[:4], digest[4:]))
    return Stream(first, second)


def bits_at(counters: Tensor, source: Stream) -> Tensor:
    """32 random bits for each counter (int32, any shape), as int32. Counters are taken modulo 2**32."""
    return _mix(_mix(counters + source.first).bitwise_xor_(source.second))


def uniform_at(counters: Tensor, source: Stream, std: float) -> Tensor:
    """fp32 values for int32 counters, uniform between -+sqrt(3) std, so with mean 0 and deviation `std`."""
    # 24 bits and a half convert to fp32 without rounding and leave no value at exactly 0
    return (bits_at(counters, source) >> 8).float().add_(0.5).mul_(std * math.sqrt(3.0) / 2**23)


def uniform(
    shape: tuple[int, ...],
    source: Stream,
    std: float,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """A tensor of the stream's first values in row-major order, rounded to `dtype`."""
    values = torch.empty(math.prod(shape), dtype=dtype, device=device)
    block = _CPU_BLOCK if values.device.type == "cpu" else _DEVICE_BLOCK
    for start in range(0, len(values), block):
        end = min(start + block, len(values))
        counters = torch.arange(start, end, device=device).to(torch.int32)
        values[start:end] = uniform_at(counters, source, std)
    return values.view(shape)


def _mix(x: Tensor) -> Tensor:
    """A bijection of 32-bit integers with little bias, in place: C. Wellons' `lowbias32`."""
    # torch's >> keeps the sign; the mask makes it the logical shift the mixer wants
    x.bitwise_xor_((x >> 16).bitwise_and_(0xFFFF)).mul_(0x7FEB352D)
    x.bitwise_xor_((x >> 15).bitwise_and_(0x1FFFF)).mul_(0x846CA68B - 2**32)
    return x.bitwise_xor_((x >> 16).bitwise_and_(0xFFFF))
