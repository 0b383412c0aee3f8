"""Which model shapes torch ranks can run; the simulator takes all of them."""

from __future__ import annotations

import torch

from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.model_shape import GroupedQueryAttention, ModelShape
from dwdp_lab.scenario.precision import Precision

TORCH_DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
_INSTEAD = "Other shapes run on the simulator only (--machine sim)"


def torch_dtype(precision: Precision, field: str = "model.expert_dtype") -> torch.dtype:
    """The torch type of a number format. Raises ScenarioError for one that ranks do not compute in."""
    try:
        return TORCH_DTYPES[precision]
    except KeyError:
        allowed = f"on ranks allowed are {', '.join(TORCH_DTYPES)}"
        raise ScenarioError(field, precision, allowed, _INSTEAD) from None


def grouped_query(shape: ModelShape) -> GroupedQueryAttention:
    """The attention of a shape that ranks can run.

    Raises ScenarioError for latent attention and for an odd head_dim.
    """
    attention = shape.attention
    if not isinstance(attention, GroupedQueryAttention):
        allowed = "on ranks allowed is gqa; this attention runs on the simulator only"
        raise ScenarioError("model.attention.kind", attention.kind, allowed, "Choose --machine sim")
    if attention.head_dim % 2:
        allowed = "on ranks it must be even, because rotary positions turn pairs of elements"
        raise ScenarioError("model.attention.head_dim", attention.head_dim, allowed, _INSTEAD)
    return attention


def check_runs_on_ranks(shape: ModelShape) -> None:
    """Raises ScenarioError when ranks cannot run this shape, before anything is started."""
    grouped_query(shape)
    torch_dtype(shape.dtype, "model.dtype")
    torch_dtype(shape.expert_dtype)
