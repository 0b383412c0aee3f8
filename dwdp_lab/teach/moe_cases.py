"""Small MoE layers on which answers are tried, and the right results for them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from dwdp_lab.scenario.model_config import read_model
from dwdp_lab.scenario.model_shape import ModelShape

if TYPE_CHECKING:
    from torch import Tensor


class ExpertsCase(NamedTuple):
    """The arguments of `experts`, and what they are, in words."""

    words: str
    arguments: tuple[Any, ...]


def tiny_shape() -> ModelShape:
    return read_model("tiny")


def experts_case(tokens: int, top_k: int, weight: float | None = None, first: int = 0) -> ExpertsCase:
    """So many tokens of the tiny model, each visiting `top_k` experts from `first` on.

    All weights are `weight`; None takes 1/2, 1/4, ... so that their order counts, in another order for each token.
    """
    import torch

    from dwdp_lab.model.inputs import hidden_inputs
    from dwdp_lab.model.weights import expert_weights
    from dwdp_lab.scenario.batches import Chunk

    shape = tiny_shape()
    x = hidden_inputs(shape, (Chunk(0, 0, tokens),), seed=0)
    rows = [[(first + token + 3 * place) % shape.experts for place in range(top_k)] for token in range(tokens)]
    shares = [weight if weight is not None else 2.0 ** -(place + 1) for place in range(top_k)]
    w13, w2 = zip(*(expert_weights(shape, 0, expert, 0) for expert in range(shape.experts)), strict=True)
    weights = [shares[token % top_k :] + shares[: token % top_k] for token in range(tokens)]
    told = [", ".join(f"{share:.3g}" for share in of_token) for of_token in weights]
    each = [f"token {token} visits experts {row}" for token, row in enumerate(rows)]
    if len(set(told)) > 1:
        words = "; ".join(f"{visit} with weights {written}" for visit, written in zip(each, told, strict=True))
    else:
        words = f"{'; '.join(each)} with weights {told[0]}"
    return ExpertsCase(words, (x, torch.tensor(rows), torch.tensor(weights), list(w13), list(w2)))


def right_experts(case: ExpertsCase) -> Tensor:
    """What the package's own layer computes."""
    from dwdp_kernels.grouped_mlp import grouped_mlp

    x, ids, weights, w13, w2 = case.arguments
    return grouped_mlp(x, ids, weights, w13, w2)


def right_route(logits: list[float], top_k: int) -> list[tuple[int, float]]:
    """The package's router on one token's logits: chosen as it chooses, weighted by softmax and scaled to 1."""
    import torch

    from dwdp_lab.model.layers import top_experts

    scores = torch.tensor([logits])
    ids = top_experts(scores, top_k)[0].tolist()
    shares = scores.double().softmax(-1)[0, ids]
    return [(expert, float(share)) for expert, share in zip(ids, shares / shares.sum(), strict=True)]


def same(left: float, right: float) -> bool:
    """Equal but for the rounding of fp32."""
    return math.isclose(left, right, rel_tol=1e-4, abs_tol=1e-6)


def as_tensor(value: Any) -> Tensor | None:
    """What was given as a tensor, from an array too."""
    import torch

    try:
        return torch.as_tensor(value).detach()
    except (TypeError, ValueError, RuntimeError):
        return None
