"""One right answer to each exercise of the lesson on the MoE layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from dwdp_lab.scenario.model_shape import ModelShape


def route(logits: list[float], top_k: int) -> list[tuple[int, float]]:
    from math import exp

    best = sorted(range(len(logits)), key=lambda expert: -logits[expert])[:top_k]  # stable: of equals the lower
    largest = logits[best[0]]
    shares = [exp(logits[expert] - largest) for expert in best]  # at most 1, whatever the logits
    return [(expert, share / sum(shares)) for expert, share in zip(best, shares, strict=True)]


def experts(x: Tensor, ids: Tensor, weights: Tensor, w13: list[Tensor], w2: list[Tensor]) -> Tensor:
    y = x.new_zeros(x.shape)
    inner = w2[0].shape[1]
    for token in range(len(x)):
        for place, expert in enumerate(ids[token].tolist()):
            gate = w13[expert][:inner] @ x[token]
            up = w13[expert][inner:] @ x[token]
            silu = gate * gate.sigmoid()
            y[token] += weights[token, place] * (w2[expert] @ (silu * up))
    return y


def expert_work(shape: ModelShape, tokens: int) -> tuple[float, float]:
    params = 3 * shape.hidden * shape.expert_intermediate  # gate, up and down
    rows = tokens * shape.top_k
    idle = (1 - shape.top_k / shape.experts) ** tokens  # the chance that no token visits an expert
    touched = shape.experts * (1 - idle)
    return 2 * params * rows, touched * params * 2  # bf16: two bytes


def share_sent(experts: int, top_k: int, owned: int) -> float:
    from math import comb

    return 1 - comb(experts - owned, top_k) / comb(experts, top_k)
