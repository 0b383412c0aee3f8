"""The slow, obvious decoder in fp64 that everything else is checked against.

It shares only weights and inputs with what it checks, none of the layers' or kernels' code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from dwdp_kernels.e4m3 import Quantised
from torch import Tensor

from dwdp_lab.model.inputs import cached_kv, hidden_inputs
from dwdp_lab.model.kept_experts import kept_weights
from dwdp_lab.model.rounding import OracleMismatch as OracleMismatch
from dwdp_lab.model.rounding import compare as compare
from dwdp_lab.model.rounding import error_bound as error_bound
from dwdp_lab.model.supported import check_runs_on_ranks, grouped_query
from dwdp_lab.model.weights import LayerWeights, expert_weights, layer_weights
from dwdp_lab.scenario.batches import Batch
from dwdp_lab.scenario.model_shape import ModelShape

# queries at a time: their scores should stay in the cache
_QUERIES = 64


class IllegitimateRouting(OracleMismatch):
    """A run sent a token to experts that rounding cannot explain."""


@dataclass(frozen=True)
class OracleResult:
    """One rank's pass: the output [T, H] fp64 after the final norm, and each MoE layer's expert ids [T, k].

    The ids are those forced, or the exact choice, best first.
    """

    output: Tensor
    routing: tuple[Tensor, ...]


@torch.inference_mode()
def oracle(
    shape: ModelShape,
    batch: Batch,
    seed: int,
    router_skew: float = 0.0,
    forced_routing: Sequence[Tensor] | None = None,
) -> OracleResult:
    """A decoder pass of one rank's batch, on the CPU.

    Two experts with nearly equal scores change places under rounding, and the output then differs by far more
    than rounding. `forced_routing`, the ids [T, k] a run chose in each MoE layer, takes that out: the oracle
    checks that each choice is legitimate and then uses it. Legitimate means that a chosen expert's exact
    score reaches the k-th best one within what rounding does to both. What it does to a score is
    `error_bound(shape)` times the size of a logit, rms(normed) * |router row|; for the displaced expert, the
    largest of the token's is taken.

    Raises IllegitimateRouting with layer, token and experts, and ScenarioError for a shape ranks cannot run.
    """
    check_runs_on_ranks(shape)
    if forced_routing is not None and len(forced_routing) != shape.moe_layers:
        raise IllegitimateRouting(f"{len(forced_routing)} layers of routing, but {shape.moe_layers} MoE layers")
    x = hidden_inputs(shape, batch, seed).double()
    routing: list[Tensor] = []
    for layer in range(shape.layers):
        weights = layer_weights(shape, layer, seed, router_skew)
        x = x + _attention(shape, weights, _norm(shape, x, weights.input_norm), batch, layer, seed)
        normed = _norm(shape, x, weights.post_norm)
        if weights.dense_w13 is not None and weights.dense_w2 is not None:
            x = x + _mlp(normed, weights.dense_w13, weights.dense_w2)
            continue
        forced = forced_routing[len(routing)] if forced_routing is not None else None
        ids, shares = _route(shape, weights, normed, layer, forced)
        routing.append(ids)
        x = x + _experts(shape, normed, ids, shares, layer, seed)
        if weights.shared_w13 is not None and weights.shared_w2 is not None:
            x = x + _mlp(normed, weights.shared_w13, weights.shared_w2)
    return OracleResult(_norm(shape, x, None), tuple(routing))


def _norm(shape: ModelShape, x: Tensor, weight: Tensor | None) -> Tensor:
    scaled = x / torch.sqrt((x * x).mean(dim=1, keepdim=True) + shape.rms_eps)
    return scaled if weight is None else scaled * weight.double()


def _mlp(x: Tensor, w13: Tensor, w2: Tensor) -> Tensor:
    inner = w2.shape[1]
    gate = x @ w13[:inner].double().T
    up = x @ w13[inner:].double().T
    return (gate * torch.sigmoid(gate) * up) @ w2.double().T


def _rotated(x: Tensor, positions: Tensor, theta: float) -> Tensor:
    """[heads, n, head_dim] rotated by position: pairs (i, i + head_dim / 2) as complex numbers."""
    half = x.shape[2] // 2
    frequency = torch.exp(-math.log(theta) * torch.arange(half, dtype=torch.float64) / half)
    angle = positions.double()[:, None] * frequency
    turned = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat((turned.real, turned.imag), dim=2)


def _attention(shape: ModelShape, weights: LayerWeights, normed: Tensor, batch: Batch, layer: int, seed: int) -> Tensor:
    """[T, H]: chunk by chunk."""
    heads = grouped_query(shape)
    window = heads.window if layer % 2 == 0 else None
    parts = heads.heads + 2 * heads.kv_heads
    qkv = (normed @ weights.qkv.double().T).view(len(normed), parts, heads.head_dim).transpose(0, 1)
    kv_head = torch.arange(heads.heads) // (heads.heads // heads.kv_heads)  # of each query head
    mixed = [normed.new_empty(0, heads.heads * heads.head_dim)]
    start = 0
    for chunk in batch:
        own = qkv[:, start : start + chunk.new_tokens]
        positions = torch.arange(chunk.context_tokens, chunk.context_tokens + chunk.new_tokens)
        turned = _rotated(own[: heads.heads + heads.kv_heads], positions, shape.rope_theta)
        old_keys, old_values = (old.double().transpose(0, 1) for old in cached_kv(shape, layer, chunk, seed))
        keys = torch.cat((old_keys, turned[heads.heads :]), dim=1)
        values = torch.cat((old_values, own[heads.heads + heads.kv_heads :]), dim=1)
        query = turned[: heads.heads]
        mixed.append(_softmax_attention(query, keys[kv_head], values[kv_head], positions, window))
        start += chunk.new_tokens
    return torch.cat(mixed) @ weights.output.double().T


def _softmax_attention(query: Tensor, key: Tensor, value: Tensor, positions: Tensor, window: int | None) -> Tensor:
    """[n, heads * head_dim]: softmax(q k / sqrt(d)) v over the keys up to each query's position.

    All of [heads, n or context + n, head_dim]; a window hides the keys that are `window` or more back.
    """
    query = query / math.sqrt(query.shape[2])
    results = []
    for start in range(0, len(positions), _QUERIES):
        at = positions[start : start + _QUERIES]
        seen = int(at[-1]) + 1
        distance = at[:, None] - torch.arange(seen)
        hidden = distance < 0 if window is None else (distance < 0) | (distance >= window)
        scores = query[:, start : start + _QUERIES] @ key[:, :seen].transpose(1, 2)
        shares = torch.softmax(scores.masked_fill_(hidden, -torch.inf), dim=2)
        results.append(shares @ value[:, :seen])
    return torch.cat(results, dim=1).transpose(0, 1).flatten(1)


def _route(
    shape: ModelShape, weights: LayerWeights, normed: Tensor, layer: int, forced: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Expert ids [T, k] and their weights [T, k]."""
    assert weights.router is not None
    router = weights.router.double()
    logits = normed @ router.T
    scores = logits + weights.router_bias.double()
    best = scores.sort(dim=1, descending=True, stable=True)
    if forced is None:
        ids = best.indices[:, : shape.top_k]
    else:
        ids = forced.cpu().long()
        size = normed.square().mean(dim=1).sqrt()[:, None] * router.square().sum(dim=1).sqrt()
        _check_forced(shape, layer, ids, scores, best.values[:, shape.top_k - 1], error_bound(shape) * size)
    shares = torch.softmax(logits, dim=1).gather(1, ids)
    return ids, shares / shares.sum(dim=1, keepdim=True) if shape.normalise_top_k else shares


def _check_forced(
    shape: ModelShape, layer: int, ids: Tensor, scores: Tensor, threshold: Tensor, rounding: Tensor
) -> None:
    """Raises IllegitimateRouting unless rounding explains ids [T, k]; scores and rounding are [T, E]."""
    tokens = len(scores)
    if ids.shape != (tokens, shape.top_k):
        raise IllegitimateRouting(f"layer {layer}: ids have size {tuple(ids.shape)}, not {(tokens, shape.top_k)}")
    in_order = ids.sort(dim=1).values
    wrong = (ids < 0).any(1) | (ids >= shape.experts).any(1) | (in_order[:, 1:] == in_order[:, :-1]).any(1)
    if wrong.any():
        token = int(wrong.nonzero()[0])
        raise IllegitimateRouting(
            f"layer {layer}, token {token}: experts {ids[token].tolist()} are not {shape.top_k} different "
            f"numbers from 0 to {shape.experts - 1}"
        )
    missing = threshold[:, None] - scores.gather(1, ids)
    allowed = rounding.gather(1, ids) + rounding.amax(dim=1, keepdim=True)
    over = missing > allowed
    if over.any():
        token, place = (int(index) for index in over.nonzero()[0])
        exact = scores[token].argsort(descending=True)[: shape.top_k].tolist()
        raise IllegitimateRouting(
            f"layer {layer}, token {token}: experts {ids[token].tolist()} were chosen, the exact ones are "
            f"{exact}; expert {int(ids[token, place])} misses the threshold by "
            f"{float(missing[token, place]):.3g}, rounding explains {float(allowed[token, place]):.3g}"
        )


def _experts(shape: ModelShape, normed: Tensor, ids: Tensor, shares: Tensor, layer: int, seed: int) -> Tensor:
    """[T, H]: expert by expert over the tokens that chose it."""
    out = torch.zeros_like(normed)
    for expert in range(shape.experts):
        token, place = (ids == expert).nonzero(as_tuple=True)
        kept = kept_weights(shape, expert_weights(shape, layer, expert, seed))
        w13, w2 = (weight.exact() if isinstance(weight, Quantised) else weight for weight in kept)
        out[token] += shares[token, place, None] * _mlp(normed[token], w13, w2)
    return out
