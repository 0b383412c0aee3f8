"""Causal grouped-query attention of chunks, each over its cached context and itself."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from dwdp_lab.scenario.batches import Batch

# queries that share a mask: bounds the mask's size, and a window leaves most keys out
QUERY_BLOCK = 1024


def causal_attention(q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
    """[n, heads, head_dim] from q [n, heads, head_dim] and k, v [context + n, kv_heads, head_dim].

    Query i stands at position context + i; it sees the keys up to its own, at most `window` of them.
    """
    new, heads = q.shape[:2]
    context = len(k) - new
    if not context and sees_all(new, window):
        return alike_attention(q, k, v, 1)
    q, k, v = (part.transpose(0, 1).unsqueeze(0) for part in (q, k, v))
    group = heads // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    blocks = []
    for start in range(0, new, QUERY_BLOCK):
        first, last = context + start, context + min(start + QUERY_BLOCK, new)
        oldest = 0 if window is None else max(0, first - window + 1)
        position = torch.arange(first, last, device=q.device)[:, None]
        key = torch.arange(oldest, last, device=q.device)
        seen = key <= position
        if window is not None:
            seen &= key > position - window
        queries = q[:, :, start : last - context]
        span = slice(oldest, last)
        blocks.append(functional.scaled_dot_product_attention(queries, k[:, :, span], v[:, :, span], attn_mask=seen))
    return torch.cat(blocks, dim=2)[0].transpose(0, 1)


def sees_all(tokens: int, window: int | None) -> bool:
    """Whether so many tokens are not too many for the window."""
    return window is None or window >= tokens


def alike_attention(q: Tensor, k: Tensor, v: Tensor, chunks: int) -> Tensor:
    """What causal_attention gives for each of so many chunks, one after another, of as many tokens and without context:
    all of them at once, since a short one alone leaves most of a GPU idle and takes the host as long as a long one."""
    q, k, v = (part.view(chunks, -1, *part.shape[1:]).transpose(1, 2) for part in (q, k, v))
    out = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    return out.transpose(1, 2).flatten(0, 1)


@lru_cache(maxsize=8)
def rope_tables(batch: Batch, head_dim: int, theta: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """cos and sin, [T, 1, head_dim / 2] fp32, of the rotary angles of a batch's new tokens.

    Rotary position embedding (Su et al., arXiv 2104.09864): angle = position * theta^(-2 i / head_dim). The
    angle is made in fp64, because fp32 is off by 0.004 at position 100000.
    """
    parts = [torch.arange(chunk.context_tokens, chunk.context_tokens + chunk.new_tokens) for chunk in batch]
    positions = torch.cat(parts) if parts else torch.empty(0)
    frequencies = theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    angles = positions.double()[:, None] * frequencies
    cos, sin = (table.float().unsqueeze(1).to(device) for table in (angles.cos(), angles.sin()))
    return cos, sin


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [T, heads, head_dim] with element i and element i + head_dim / 2 turned by the i-th angle."""
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)
