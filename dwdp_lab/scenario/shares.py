"""What of every layer each rank keeps when the layers themselves are cut, as the strategies `tensor` and `pipeline` do.

`tensor` cuts every layer across its width: rank r has a stretch of the query heads with the keys and values these
look at, and a stretch of the columns of every MLP's intermediate width. `pipeline` cuts between layers. Any number of
ranks is allowed: shares differ by at most one head, layer or unit of columns, and a rank may be left with nothing.
"""

from __future__ import annotations

from math import gcd
from typing import NamedTuple

from dwdp_lab.scenario.model_shape import GroupedQueryAttention, ModelShape

COLUMN_UNIT = 32
"""Columns are dealt in units of this where they can be: a block of MXFP4, two of NVFP4, 64 aligned bytes in bf16."""


class Share(NamedTuple):
    """One rank's share of every layer. Columns are those of one expert (routed or shared) and of a dense MLP."""

    heads: range
    kv_heads: range
    """Those that the query heads look at. Ranks beside each other both keep one that heads of both look at; latent
    attention has one for each query head."""
    columns: range
    dense_columns: range


def cut(total: int, ranks: int, rank: int, unit: int = 1) -> range:
    """The rank's stretch of `total` things, dealt out in whole units and as evenly as these allow.

    >>> [list(cut(7, 3, rank)) for rank in range(3)]
    [[0, 1], [2, 3], [4, 5, 6]]
    """
    units = total // unit
    return range(rank * units // ranks * unit, (rank + 1) * units // ranks * unit)


def column_unit(width: int, ranks: int) -> int:
    """The largest power of two up to COLUMN_UNIT that divides the width and leaves no rank without columns, if any."""
    unit = gcd(width, COLUMN_UNIT)
    while unit > 1 and width // unit < ranks:
        unit //= 2
    return unit


def share_of(model: ModelShape, ranks: int, rank: int) -> Share:
    """What a rank of `tensor` keeps of every layer."""
    attention = model.attention
    heads = cut(attention.heads, ranks, rank)
    kv_heads = heads
    if isinstance(attention, GroupedQueryAttention) and heads:
        group = attention.heads // attention.kv_heads
        kv_heads = range(heads.start // group, (heads.stop - 1) // group + 1)
    inner, dense = model.expert_intermediate, model.dense_intermediate
    return Share(
        heads,
        kv_heads,
        cut(inner, ranks, rank, column_unit(inner, ranks)),
        cut(dense, ranks, rank, column_unit(dense, ranks) if dense else 1),
    )


def narrowed(model: ModelShape, share: Share) -> ModelShape:
    """The model as one rank of `tensor` sees it: as deep, with as many experts, but only as wide as its share.

    Its FLOPs, bytes and weights' sizes are the rank's own. It is not checked as a model is: it may have no head or no
    column at all, and its query heads need not be a multiple of its kv heads.
    """
    widths: dict[str, int] = {"heads": len(share.heads)}
    if isinstance(model.attention, GroupedQueryAttention):
        widths["kv_heads"] = len(share.kv_heads)
    return model.model_copy(
        update={
            "attention": model.attention.model_copy(update=widths),
            "expert_intermediate": len(share.columns),
            "dense_intermediate": len(share.dense_columns),
        }
    )


def stage_of(model: ModelShape, ranks: int, rank: int) -> range:
    """The layers that a rank of `pipeline` keeps; none for some ranks when there are fewer layers than ranks."""
    return cut(model.layers, ranks, rank)
