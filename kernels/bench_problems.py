"""What the kernel benchmark measures: shapes, and rows spread by a skewed router."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

SKEW = 0.5
"""Standard deviation of the experts' log-popularity: with 128 experts the busiest gets about 3 times its share."""


class GroupedShape(NamedTuple):
    """A grouped GEMM of x [rows, k] with weights [n, k] of each expert."""

    experts: int
    rows: int
    k: int
    n: int

    @property
    def flops(self) -> float:
        """Of all rows."""
        return 2.0 * self.rows * self.k * self.n

    def moved_bytes(self, element_bytes: int, result_bytes: int | None = None) -> float:
        """Each operand read once, the result written once; its elements are as large as theirs unless told."""
        operands = self.rows * self.k + self.experts * self.k * self.n
        return float(operands * element_bytes + self.rows * self.n * (result_bytes or element_bytes))


class LayerShape(NamedTuple):
    """The routed experts of one MoE layer."""

    name: str
    experts: int
    top_k: int
    hidden: int
    inner: int
    tokens: int

    @property
    def flops(self) -> float:
        """Of both products."""
        return 6.0 * self.tokens * self.top_k * self.hidden * self.inner

    def moved_bytes(self, element_bytes: int, x_bytes: int | None = None) -> float:
        """Weights and input read once, the output written once, nothing between kept in memory.

        Elements of input and output are as large as those of weights unless told.
        """
        weights = 3 * self.experts * self.hidden * self.inner
        return float(weights * element_bytes + 2 * self.tokens * self.hidden * (x_bytes or element_bytes))


GROUPED_SHAPES = (
    GroupedShape(64, 49152, 2048, 2816),
    GroupedShape(128, 131072, 2048, 1536),
    GroupedShape(128, 131072, 768, 2048),
    GroupedShape(64, 65536, 4096, 3072),
    GroupedShape(8, 32768, 4096, 28672),
    GroupedShape(128, 16384, 2048, 1536),
    GroupedShape(256, 16384, 7168, 4096),
    GroupedShape(32, 65536, 2880, 5760),
)
LAYER_SHAPES = (
    LayerShape("qwen3-30b-a3b", 128, 8, 2048, 768, 16384),
    LayerShape("olmoe-1b-7b", 64, 8, 2048, 1024, 16384),
    LayerShape("mixtral-8x7b", 8, 2, 4096, 14336, 8192),
)


def popularity(experts: int, skew: float, random: torch.Generator) -> Tensor:
    """[E] on the CPU: how likely a token is to choose each expert; softmax of normal log-popularities."""
    return torch.softmax(skew * torch.randn(experts, generator=random), 0)


def skewed_offsets(shape: GroupedShape, skew: float, random: torch.Generator) -> Tensor:
    """[E + 1] int32 on the CPU: rows dealt to experts one by one, as popular as they are."""
    chosen = torch.multinomial(popularity(shape.experts, skew, random), shape.rows, replacement=True, generator=random)
    counts = torch.bincount(chosen, minlength=shape.experts)
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)]).int()


def skewed_routing(shape: LayerShape, skew: float, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """ids [T, k] int64 and weights [T, k] on the CPU: each token's k experts differ, its weights sum to 1."""
    likely = popularity(shape.experts, skew, random).expand(shape.tokens, -1)
    ids = torch.multinomial(likely, shape.top_k, generator=random)
    return ids, torch.softmax(torch.randn(shape.tokens, shape.top_k, generator=random), 1)


def random_weights(count: int, rows: int, columns: int, dtype: torch.dtype, random: torch.Generator) -> Tensor:
    """[count, rows, columns] on the generator's device, scaled so that products with unit rows have unit size."""
    weights = torch.empty(count, rows, columns, dtype=dtype, device=random.device)
    return weights.normal_(0, 1 / math.sqrt(columns), generator=random)


def random_rows(rows: int, columns: int, dtype: torch.dtype, random: torch.Generator) -> Tensor:
    """[rows, columns] of unit size on the generator's device."""
    return torch.empty(rows, columns, dtype=dtype, device=random.device).normal_(generator=random)


def in_buffers(weights: Tensor, buffers: int) -> list[Tensor]:
    """The same weights, one tensor per expert, in so many separate buffers, dealt in turn as slots would be."""
    dealt = [weights[first::buffers].clone() for first in range(min(buffers, len(weights)))]
    return [dealt[e % len(dealt)][e // len(dealt)] for e in range(len(weights))]
