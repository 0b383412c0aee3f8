"""Random valid scenarios."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import strategies as st

PRESETS = ("tiny", "qwen3-30b-a3b", "mixtral-8x7b", "olmoe-1b-7b", "gpt-oss-120b", "deepseek-r1", "deepseek-r1-nvfp4")
PRECISIONS = ("fp32", "bf16", "fp16", "fp8", "mxfp4", "nvfp4")
EXPERT_PRECISIONS = (*PRECISIONS, "fp8_channel")


@st.composite
def models(draw: st.DrawFn) -> Any:
    """A preset, a preset with changes, or a shape of its own."""
    if draw(st.booleans()):
        preset = draw(st.sampled_from(PRESETS))
        changes = draw(st.fixed_dictionaries({}, optional={"layers": st.integers(4, 80), "vocab": st.integers(1, 999)}))
        return {"preset": preset, **changes} if changes else preset
    kv_heads = draw(st.integers(1, 4))
    grouped = {
        "kind": "gqa",
        "heads": kv_heads * draw(st.integers(1, 4)),
        "kv_heads": kv_heads,
        "head_dim": draw(st.integers(1, 256)),
        "window": draw(st.none() | st.integers(1, 9999)),
    }
    names = ("heads", "q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
    latent = {"kind": "mla", **{name: draw(st.integers(1, 999)) for name in names}}
    experts = draw(st.integers(1, 64))
    layers = draw(st.integers(1, 9))
    dense_layers = draw(st.integers(0, layers - 1))
    more_dense_layers = draw(st.lists(st.integers(dense_layers + 1, 12), max_size=3))
    return {
        "name": draw(st.text(max_size=9)),
        "layers": layers,
        "hidden": draw(st.integers(1, 9999)),
        "attention": draw(st.sampled_from([grouped, latent])),
        "experts": experts,
        "top_k": draw(st.integers(1, experts)),
        "expert_intermediate": draw(st.integers(1, 999)),
        "shared_experts": draw(st.integers(0, 2)),
        "dense_layers": dense_layers,
        "more_dense_layers": more_dense_layers,
        "dense_intermediate": draw(st.integers(1, 999)) if dense_layers or more_dense_layers else 0,
        "rms_eps": draw(st.floats(1e-9, 1e-3)),
        "rope_theta": draw(st.floats(1, 1e9)),
        "dtype": draw(st.sampled_from(PRECISIONS[:3])),
        "expert_dtype": draw(st.sampled_from(EXPERT_PRECISIONS)),
    }


def strategies() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "name": st.sampled_from(("replicated", "dep", "weight_gather", "dwdp", "tensor", "pipeline")),
            "overlap": st.booleans(),
            "slots": st.just(3),
            "prefetch_distance": st.none() | st.integers(1, 3),
            "cross_step": st.booleans(),
            "weight_view": st.sampled_from(("merged", "split", "composite")),
            "slice_bytes": st.none() | st.integers(1024, 2**24) | st.sampled_from(("64KiB", "2MiB", "1 MB", "none")),
            "peer_order": st.sampled_from(("ascending", "rotated", "interleaved", "permutation")),
            "micro_batches": st.integers(1, 64),
            "collectives": st.sampled_from(("auto", "copy", "nccl")),
            "dep_form": st.sampled_from(("auto", "all_to_all", "all_gather")),
        }
    )


def workloads(ranks: int) -> st.SearchStrategy[dict[str, Any]]:
    shared = {"router_skew": st.floats(0, 4), "seed": st.integers(0, 2**40)}
    steps = {"steps": st.integers(1, 4), "prefix_hit": st.floats(0, 0.9)}
    explicit = {
        "kind": st.just("explicit"),
        "lengths": st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=3), min_size=ranks, max_size=ranks),
    }
    isl = {
        "kind": st.just("isl"),
        "isl_tokens": st.integers(1, 9999),
        "isl_ratio": st.floats(0.1, 1),
        "isl_std_tokens": st.just(0.0) | st.floats(1, 99),
        "mnt_tokens": st.integers(64, 9999),
        **steps,
    }
    cv = {"kind": st.just("cv"), "tokens_per_rank": st.integers(1, 9999), "cv": st.floats(0, 0.55), **steps}
    trace = {
        "kind": st.just("trace"),
        "file": st.sampled_from(("azure-2023-conv-64", "azure-2023-code-64", "mooncake-conversation-64")),
        "requests": st.none() | st.integers(1, 32),
        "skip": st.integers(0, 32),
        "divide_by": st.integers(1, 64),
        "mnt_tokens": st.integers(64, 9999),
        "assign": st.sampled_from(("round_robin", "least_loaded")),
        "prefix_cache": st.booleans(),
    }
    return st.one_of(*(st.fixed_dictionaries({**kind, **shared}) for kind in (explicit, isl, cv, trace)))


@st.composite
def scenario_fields(draw: st.DrawFn) -> dict[str, Any]:
    """Fields that Scenario.create accepts."""
    ranks = draw(st.integers(1, 9))
    return {
        "model": draw(models()),
        "group": {"ranks": ranks},
        "strategy": draw(strategies()),
        "workload": draw(workloads(ranks)),
        "hardware": draw(st.sampled_from(("h100", "gb200", "laptop"))),
        "link_gbps": draw(st.none() | st.floats(0.001, 1e4) | st.sampled_from((math.inf, "inf", "none"))),
    }
