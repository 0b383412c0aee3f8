"""Which model shapes torch ranks can run; the simulator takes all of them.

Checked in the session before any rank starts, so this module loads torch only when a torch type is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.model_shape import GroupedQueryAttention, ModelShape
from dwdp_lab.scenario.precision import Precision

if TYPE_CHECKING:
    import torch

TORCH_NAMES: dict[Precision, str] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_INSTEAD = "Other shapes run on the simulator only (--machine sim)"


def check_dtype(precision: Precision, field: str) -> None:
    """Raises ScenarioError for a number format that ranks do not compute in."""
    if precision not in TORCH_NAMES:
        raise ScenarioError(field, precision, f"on ranks allowed are {', '.join(TORCH_NAMES)}", _INSTEAD)


def torch_dtype(precision: Precision, field: str = "model.expert_dtype") -> torch.dtype:
    """The torch type of a number format. Raises ScenarioError for one that ranks do not compute in."""
    import torch

    check_dtype(precision, field)
    dtype: torch.dtype = getattr(torch, TORCH_NAMES[precision])
    return dtype


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
    check_dtype(shape.dtype, "model.dtype")
    check_dtype(shape.expert_dtype, "model.expert_dtype")
    if shape.dense_dtype not in (None, shape.dtype):
        allowed = f"on ranks the dense weights are kept in model.dtype ({shape.dtype})"
        raise ScenarioError("model.dense_dtype", shape.dense_dtype, allowed, _INSTEAD)
