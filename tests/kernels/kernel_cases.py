"""Small random problems for the kernels' tests: rows in expert order, weights in several buffers, routings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor


class GroupedCase(NamedTuple):
    """Rows x [R, K] in expert order, their offsets [E + 1], and one [N, K] weight per expert."""

    x: Tensor
    offsets: Tensor
    weights: list[Tensor]


class RoutedCase(NamedTuple):
    """Tokens x [T, H], ids and weights [T, k], w13 [2I, H] and w2 [H, I] per expert."""

    x: Tensor
    ids: Tensor
    weights: Tensor
    w13: list[Tensor]
    w2: list[Tensor]


def random_weights(
    count: int, rows: int, columns: int, dtype: torch.dtype, random: torch.Generator, device: str = "cpu"
) -> list[Tensor]:
    drawn = torch.randn(count, rows, columns, generator=random) / math.sqrt(columns)
    return list(drawn.to(device, dtype).unbind(0))


def grouped_case(
    counts: Sequence[int], k: int, n: int, dtype: torch.dtype, seed: int = 0, device: str = "cpu"
) -> GroupedCase:
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(sum(counts), k, generator=random).to(device, dtype)
    offsets = torch.tensor([0, *torch.tensor(counts).cumsum(0).tolist()], dtype=torch.int32, device=device)
    return GroupedCase(x, offsets, random_weights(len(counts), n, k, dtype, random, device))


def routed_case(
    tokens: int,
    top_k: int,
    experts: int,
    hidden: int,
    inner: int,
    dtype: torch.dtype,
    skew: float = 1.0,
    seed: int = 0,
    device: str = "cpu",
) -> RoutedCase:
    random = torch.Generator().manual_seed(seed)
    likely = torch.softmax(skew * torch.randn(experts, generator=random), 0) + 1e-6
    ids = (
        torch.multinomial(likely.expand(tokens, -1), top_k, generator=random)
        if tokens
        else torch.empty(0, top_k, dtype=torch.int64)
    )
    return RoutedCase(
        torch.randn(tokens, hidden, generator=random).to(device, dtype),
        ids.to(device),
        torch.softmax(torch.randn(tokens, top_k, generator=random), 1).to(device, dtype),
        random_weights(experts, 2 * inner, hidden, dtype, random, device),
        random_weights(experts, hidden, inner, dtype, random, device),
    )


def spread_over_buffers(weights: Sequence[Tensor], buffers: int, gap: int = 16) -> list[Tensor]:
    """The same weights dealt to so many buffers, with NaN before, between and behind them.

    Of packed weights the bytes: 255 is NaN in e4m3, and four of them in fp32.
    """
    size = weights[0].numel() + gap
    nothing = math.nan if weights[0].is_floating_point() else 255
    kept = []
    for first in range(buffers):
        own = weights[first::buffers]
        kept.append(torch.full((gap + len(own) * size,), nothing, dtype=weights[0].dtype, device=weights[0].device))
        for place, weight in enumerate(own):
            kept[first][gap + place * size :][: weight.numel()].copy_(weight.flatten())
    return [
        kept[e % buffers][gap + e // buffers * size :][: weight.numel()].view(weight.shape)
        for e, weight in enumerate(weights)
    ]


def counts_of_rows(most_experts: int = 6, most_rows: int = 40) -> st.SearchStrategy[list[int]]:
    """Rows per expert: anything, empty experts, and one expert with all rows."""
    some = st.lists(st.integers(0, most_rows // 2), min_size=1, max_size=most_experts)
    one = st.tuples(st.integers(1, most_experts), st.integers(0, most_rows), st.integers(0, 99)).map(
        lambda drawn: [drawn[1] if e == drawn[2] % drawn[0] else 0 for e in range(drawn[0])]
    )
    return st.one_of(some, one)


def relative_error(result: Tensor, exact: Tensor) -> float:
    """||result - exact|| / ||exact||; 0 for two empty or zero tensors."""
    size = float(exact.double().norm())
    return float((result.double() - exact.double()).norm()) / size if size else float(result.double().norm())


def fill_what_torch_empty_makes(patch: pytest.MonkeyPatch, value: float) -> None:
    """Until the patch ends, floating-point tensors of torch.empty hold `value`: what is not written shows."""
    empty = torch.empty

    def filled(*size: int, **options: object) -> Tensor:
        made: Tensor = empty(*size, **options)  # type: ignore[call-overload]
        return made.fill_(value) if made.is_floating_point() else made

    patch.setattr(torch, "empty", filled)
