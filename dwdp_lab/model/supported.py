"""Which model shapes torch ranks can run; the simulator takes all of them.

Checked in the session before any rank starts, so this module loads torch only when a torch type is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.model_shape import GroupedQueryAttention, ModelShape
from dwdp_lab.scenario.precision import ExpertPrecision

if TYPE_CHECKING:
    import torch

TORCH_NAMES: dict[ExpertPrecision, str] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
SCALED: Literal["fp8_channel"] = "fp8_channel"
"""What ranks keep as bytes: elements in e4m3, and fp32 scales behind them (kernels/scaled_experts.py)."""
SCALES_EVERY = 4
"""Both of an expert's matrices have the hidden width on one side: if 4 divides it, their elements and so all parts of a
buffer of them end where an fp32 may begin."""
_INSTEAD = "Other shapes run on the simulator only (--machine sim)"


def check_dtype(precision: ExpertPrecision, field: str, beside: tuple[ExpertPrecision, ...] = ()) -> None:
    """Raises ScenarioError for a number format that ranks do not compute in, and that is none of those `beside`."""
    allowed = (*TORCH_NAMES, *beside)
    if precision not in allowed:
        raise ScenarioError(field, precision, f"on ranks allowed are {', '.join(allowed)}", _INSTEAD)


def torch_dtype(precision: ExpertPrecision, field: str = "model.expert_dtype") -> torch.dtype:
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
    check_dtype(shape.expert_dtype, "model.expert_dtype", (SCALED,))
    if shape.expert_dtype == SCALED and shape.hidden % SCALES_EVERY:
        allowed = f"on ranks, with experts in {SCALED}, it must be a multiple of {SCALES_EVERY}: scales are aligned"
        raise ScenarioError("model.hidden", shape.hidden, allowed, _INSTEAD)
    if shape.dense_dtype not in (None, shape.dtype):
        allowed = f"on ranks the dense weights are kept in model.dtype ({shape.dtype})"
        raise ScenarioError("model.dense_dtype", shape.dense_dtype, allowed, _INSTEAD)
