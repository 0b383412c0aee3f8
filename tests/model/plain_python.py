"""A decoder pass in plain Python numbers, one at a time: what the fp64 oracle itself is checked against."""

from __future__ import annotations

import math
from typing import Any

from dwdp_lab.model.inputs import cached_kv, hidden_inputs
from dwdp_lab.model.weights import expert_weights, layer_weights
from dwdp_lab.scenario.batches import Batch, Chunk
from dwdp_lab.scenario.model_shape import ModelShape

Vector = list[float]


def decode(shape: ModelShape, batch: Batch, seed: int, router_skew: float) -> tuple[list[Vector], list[Any]]:
    """The output's rows and, per MoE layer, each token's experts in ascending order."""
    rows: list[Vector] = hidden_inputs(shape, batch, seed).double().tolist()
    routing = []
    for layer in range(shape.layers):
        weights = layer_weights(shape, layer, seed, router_skew)
        norm = weights.input_norm.double().tolist()
        heads = []
        start = 0
        for chunk in batch:
            normed = [rms(row, shape.rms_eps, norm) for row in rows[start : start + chunk.new_tokens]]
            heads += chunk_attention(shape, weights.qkv.double().tolist(), normed, chunk, layer, seed)
            start += chunk.new_tokens
        output = weights.output.double().tolist()
        rows = [add(row, times(output, mixed)) for row, mixed in zip(rows, heads, strict=True)]
        norm = weights.post_norm.double().tolist()
        chosen = []
        for token, row in enumerate(rows):
            normed_row = rms(row, shape.rms_eps, norm)
            if not shape.has_experts(layer):
                rows[token] = add(row, mlp(normed_row, weights.dense_w13, weights.dense_w2))
                continue
            logits = times(weights.router.double().tolist(), normed_row)
            bias = weights.router_bias.double().tolist()
            best = sorted(range(shape.experts), key=lambda e: -(logits[e] + bias[e]))[: shape.top_k]
            total = sum(math.exp(x) for x in logits)
            shares = [math.exp(logits[e]) / total for e in best]
            if shape.normalise_top_k:
                shares = [share / sum(shares) for share in shares]
            for expert, share in zip(best, shares, strict=True):
                out = mlp(normed_row, *expert_weights(shape, layer, expert, seed))
                row = add(row, [share * x for x in out])
            if shape.shared_experts:
                row = add(row, mlp(normed_row, weights.shared_w13, weights.shared_w2))
            rows[token] = row
            chosen.append(sorted(best))
        if shape.has_experts(layer):
            routing.append(chosen)
    return [rms(row, shape.rms_eps, [1.0] * shape.hidden) for row in rows], routing


def chunk_attention(
    shape: ModelShape, qkv: list[Vector], normed: list[Vector], chunk: Chunk, layer: int, seed: int
) -> list[Vector]:
    heads, kv_heads, size = shape.attention.heads, shape.attention.kv_heads, shape.attention.head_dim
    window = shape.attention.window if layer % 2 == 0 else None
    cached_keys, cached_values = (part.double().tolist() for part in cached_kv(shape, layer, chunk, seed))
    keys, values, queries = list(cached_keys), list(cached_values), []
    for row, vector in enumerate(normed):
        position = chunk.context_tokens + row
        flat = times(qkv, vector)
        parts = [flat[i : i + size] for i in range(0, len(flat), size)]
        queries.append([turn(part, position, shape.rope_theta) for part in parts[:heads]])
        keys.append([turn(part, position, shape.rope_theta) for part in parts[heads : heads + kv_heads]])
        values.append(parts[heads + kv_heads :])
    results = []
    for row, query in enumerate(queries):
        position = chunk.context_tokens + row
        first = 0 if window is None else max(0, position - window + 1)
        mixed: Vector = []
        for head in range(heads):
            group = head // (heads // kv_heads)
            scores = [dot(query[head], keys[p][group]) / math.sqrt(size) for p in range(first, position + 1)]
            exponentials = [math.exp(score) for score in scores]
            shares = [x / sum(exponentials) for x in exponentials]
            seen = [values[p][group] for p in range(first, position + 1)]
            mixed += [sum(s * value[d] for s, value in zip(shares, seen, strict=True)) for d in range(size)]
        results.append(mixed)
    return results


def turn(x: Vector, position: int, theta: float) -> Vector:
    half = len(x) // 2
    out = list(x)
    for i in range(half):
        angle = position / theta ** (2 * i / len(x))
        out[i] = x[i] * math.cos(angle) - x[i + half] * math.sin(angle)
        out[i + half] = x[i + half] * math.cos(angle) + x[i] * math.sin(angle)
    return out


def mlp(x: Vector, w13: Any, w2: Any) -> Vector:
    both = times(w13.double().tolist(), x)
    inner = len(both) // 2
    return times(
        w2.double().tolist(), [g / (1 + math.exp(-g)) * u for g, u in zip(both[:inner], both[inner:], strict=True)]
    )


def rms(x: Vector, eps: float, weight: Vector) -> Vector:
    size = math.sqrt(sum(v * v for v in x) / len(x) + eps)
    return [v / size * w for v, w in zip(x, weight, strict=True)]


def times(matrix: list[Vector], x: Vector) -> Vector:
    return [dot(row, x) for row in matrix]


def dot(a: Vector, b: Vector) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def add(a: Vector, b: Vector) -> Vector:
    return [x + y for x, y in zip(a, b, strict=True)]
