"""Small decoders: one to change fields of, and Hypothesis strategies for all kinds of shapes and batches."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from dwdp_lab.scenario.batches import Batch, Chunk
from dwdp_lab.scenario.model_shape import ModelShape

LATENT = {
    "kind": "mla",
    "heads": 2,
    "q_lora_rank": 8,
    "kv_lora_rank": 8,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
}


def small_shape(precision: str = "fp32", window: int | None = None, **changes: Any) -> ModelShape:
    """Two layers, four experts, two per token, with these fields changed."""
    fields: dict[str, Any] = {
        "layers": 2,
        "hidden": 32,
        "attention": {"kind": "gqa", "heads": 4, "kv_heads": 2, "head_dim": 8, "window": window},
        "experts": 4,
        "top_k": 2,
        "expert_intermediate": 24,
        "vocab": 50,
        "dtype": precision,
        "expert_dtype": precision,
    }
    return ModelShape.model_validate({**fields, **changes})


@st.composite
def shapes(draw: st.DrawFn, precision: str) -> ModelShape:
    kv_heads = draw(st.integers(1, 2))
    layers = draw(st.integers(1, 4))
    experts = draw(st.integers(1, 6))
    dense = draw(st.integers(0, layers - 1))
    more_dense = draw(st.sets(st.integers(dense + 1, 4)))
    return small_shape(
        layers=layers,
        hidden=draw(st.sampled_from([16, 24, 40])),
        attention={
            "kind": "gqa",
            "heads": kv_heads * draw(st.integers(1, 3)),
            "kv_heads": kv_heads,
            "head_dim": draw(st.sampled_from([4, 8, 16])),
            "window": draw(st.sampled_from([None, 1, 3, 20])),
        },
        experts=experts,
        top_k=draw(st.integers(1, experts)),
        expert_intermediate=draw(st.sampled_from([7, 16, 24])),
        shared_experts=draw(st.integers(0, 2)),
        dense_layers=dense,
        more_dense_layers=more_dense,
        dense_intermediate=20 if dense or more_dense else 0,
        normalise_top_k=draw(st.booleans()),
        dtype=precision,
        expert_dtype=draw(st.sampled_from([precision, "fp32", "bf16"])),
    )


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    context = st.sampled_from([0, 0, 1, 17])
    new = st.sampled_from([1, 2, 5, 33])
    chunks = draw(st.lists(st.tuples(context, new), max_size=4))
    return tuple(Chunk(request, *chunk) for request, chunk in enumerate(chunks))
