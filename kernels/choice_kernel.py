"""The Triton kernel that chooses a token's experts from the router's logits and weighs them."""

# mypy: allow-untyped-defs, allow-untyped-calls, allow-incomplete-defs, allow-untyped-decorators
# ruff: noqa: N803
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def choice_kernel(
    logits,
    bias,
    ids,
    weights,
    experts,
    TOP_K: tl.constexpr,
    NORMALISE: tl.constexpr,
    PADDED: tl.constexpr,
    PLACES: tl.constexpr,
):
    """Of each token's logits [E] the TOP_K with the largest logit + bias, and their shares of the softmax.

    Each program serves one token. The best is taken TOP_K times and struck out; of equal ones the lower comes first.
    PADDED and PLACES are E and TOP_K as powers of two.
    """
    token = tl.program_id(0).to(tl.int64)
    column, place = tl.arange(0, PADDED), tl.arange(0, PLACES)
    logit = tl.load(logits + token * experts + column, mask=column < experts, other=float("-inf"))
    score = logit + tl.load(bias + column, mask=column < experts, other=0.0)
    share = tl.exp(logit - tl.max(logit, 0))
    chosen = tl.zeros((PLACES,), tl.int32)
    counts = tl.zeros((PLACES,), tl.float32)
    for j in tl.static_range(TOP_K):
        best = tl.min(tl.where(score == tl.max(score, 0), column, PADDED), 0)
        chosen = tl.where(place == j, best, chosen)
        counts = tl.where(place == j, tl.sum(tl.where(column == best, share, 0.0), 0), counts)
        score = tl.where(column == best, float("-inf"), score)
    total = tl.sum(counts, 0) if NORMALISE else tl.sum(share, 0)
    tl.store(ids + token * TOP_K + place, chosen, mask=place < TOP_K)
    tl.store(weights + token * TOP_K + place, (counts / total).to(weights.dtype.element_ty), mask=place < TOP_K)
