"""How ranks keep routed experts: as tensors, or, in `fp8_channel`, as bytes that hold e4m3 and the scales behind it.

Drawn or read weights become what is computed with (`kept_weights`), perhaps a share of it (narrow.py), and that becomes
a piece of memory (`as_stored`), which stores hold and pulls copy. Whoever computes looks at such memory again
(`weight_at`, `table_of`), wherever it has come to lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from dwdp_kernels.e4m3 import Quantised, quantise
from dwdp_kernels.expert_table import ExpertTable, expert_table
from dwdp_kernels.grouped_mlp import Weight
from dwdp_kernels.scaled_experts import pack_experts, packed_bytes, scaled_expert_table, unpack_expert
from torch import Tensor

from dwdp_lab.model.supported import SCALED, torch_dtype
from dwdp_lab.scenario.model_shape import ModelShape


class Stored(NamedTuple):
    """The form of one parameter of one expert in memory."""

    size: tuple[int, ...]
    """[N, K], or [bytes]"""
    dtype: torch.dtype


def stored_form(shape: ModelShape, name: str) -> Stored:
    """Of parameter `name`. Raises ScenarioError for a number format that ranks do not compute in."""
    size = dict(shape.expert_matrices)[name]
    if shape.expert_dtype == SCALED:
        return Stored((packed_bytes(*size),), torch.uint8)
    return Stored(size, torch_dtype(shape.expert_dtype))


def kept_weights(shape: ModelShape, drawn: tuple[Tensor, Tensor]) -> tuple[Weight, Weight]:
    """An expert's w13 and w2 as they are computed with; scales are those of whole rows, whatever share is kept."""
    if shape.expert_dtype != SCALED:
        return drawn
    w13, w2 = drawn
    return quantise(w13), quantise(w2)


def as_stored(weight: Weight) -> Tensor:
    """The weight as `stored_form` tells."""
    if isinstance(weight, Quantised):
        return pack_experts(Quantised(weight.values[None], weight.scales[None]))[0]
    return weight


def weight_at(shape: ModelShape, name: str, memory: Tensor) -> Weight:
    """What such memory holds, without a copy."""
    if shape.expert_dtype == SCALED:
        return unpack_expert(memory, *dict(shape.expert_matrices)[name])
    return memory


def table_of(shape: ModelShape, name: str, memory: Sequence[Tensor] | Tensor) -> ExpertTable:
    """The table of one such memory per expert, in any buffers.

    Raises ValueError for weights that the kernels cannot read.
    """
    if shape.expert_dtype == SCALED:
        return scaled_expert_table(memory, *dict(shape.expert_matrices)[name])
    return expert_table(memory)
