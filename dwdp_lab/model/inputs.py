"""Seeded inputs: what a request's tokens are, and what an earlier pass left in the KV cache."""

from __future__ import annotations

import torch
from torch import Tensor

from dwdp_lab.model.draws import bits_at, stream, uniform, uniform_at
from dwdp_lab.model.supported import grouped_query, torch_dtype
from dwdp_lab.scenario.batches import Batch, Chunk
from dwdp_lab.scenario.model_shape import ModelShape

# embedding elements made at a time, which bounds the intermediate integers
_BLOCK = 1 << 24


def token_ids(shape: ModelShape, batch: Batch, seed: int, device: torch.device | str = "cpu") -> Tensor:
    """[T] int64: random tokens, each decided by (seed, request, absolute position), in the batch's order.

    Cutting a request into other chunks does not change its tokens.
    """
    parts = [torch.empty(0, dtype=torch.int32, device=device)]
    for chunk in batch:
        end = chunk.context_tokens + chunk.new_tokens
        positions = torch.arange(chunk.context_tokens, end, dtype=torch.int32, device=device)
        parts.append(bits_at(positions, stream("tokens", seed, chunk.request)))
    return (torch.cat(parts).long() & 0xFFFFFFFF) % shape.vocab


def hidden_inputs(shape: ModelShape, batch: Batch, seed: int, device: torch.device | str = "cpu") -> Tensor:
    """[T, H] in `shape.dtype`: the embeddings of the batch's new tokens, with deviation 1.

    Rows of the embedding table are made where they are needed, because the whole of a large one is not.
    """
    tokens = token_ids(shape, batch, seed, device)
    dtype = torch_dtype(shape.dtype, "model.dtype")
    hidden = torch.empty(len(tokens), shape.hidden, dtype=dtype, device=device)
    columns = torch.arange(shape.hidden, device=device)
    rows = max(1, _BLOCK // shape.hidden)
    for start in range(0, len(tokens), rows):
        places = (tokens[start : start + rows, None] * shape.hidden + columns).to(torch.int32)
        hidden[start : start + rows] = uniform_at(places, stream("embedding", seed), 1.0)
    return hidden


def cached_kv(
    shape: ModelShape, layer: int, chunk: Chunk, seed: int, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Keys and values [context, kv_heads, head_dim] of a chunk's context in one layer, in `shape.dtype`.

    They are drawn from the seed, with deviation 1 as real ones have, each decided by (seed, layer, request,
    position), and stand for what an earlier pass left in the cache: keys with their positions already
    applied. A pass therefore computes what it would in service, and every strategy finds the same cache, but
    a request in two chunks is not the numerical continuation of itself.
    """
    heads = grouped_query(shape)
    size = (chunk.context_tokens, heads.kv_heads, heads.head_dim)
    dtype = torch_dtype(shape.dtype, "model.dtype")
    keys, values = (
        uniform(size, stream("cache", seed, layer, chunk.request, name), 1.0, dtype, device) for name in "kv"
    )
    return keys, values
