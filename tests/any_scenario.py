"""Hypothesis strategies: any scenario the lab accepts, kept small."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from dwdp_lab.scenario.scenario import Scenario


@st.composite
def models(draw: st.DrawFn) -> dict[str, Any]:
    layers = draw(st.integers(1, 5))
    experts = draw(st.integers(2, 12))
    dense = draw(st.integers(0, layers - 1))
    more_dense = sorted(draw(st.sets(st.integers(dense + 1, layers)))) if dense + 1 < layers else []
    kv_heads = draw(st.integers(1, 3))
    return {
        "name": "any",
        "layers": layers,
        "hidden": 32,
        "attention": {
            "kind": "gqa",
            "heads": kv_heads * draw(st.integers(1, 4)),
            "kv_heads": kv_heads,
            "head_dim": 16,
        },
        "experts": experts,
        "top_k": draw(st.integers(1, experts)),
        "expert_intermediate": 16 * draw(st.integers(1, 3)),
        "shared_experts": draw(st.integers(0, 1)),
        "dense_layers": dense,
        "more_dense_layers": more_dense,
        "dense_intermediate": 64 if dense or more_dense else 0,
        "dtype": "bf16",
        "expert_dtype": draw(st.sampled_from(["bf16", "fp8", "fp8_channel", "nvfp4"])),
    }


@st.composite
def strategies(draw: st.DrawFn, names: tuple[str, ...]) -> dict[str, Any]:
    slots = draw(st.integers(1, 3))
    return {
        "name": draw(st.sampled_from(names)),
        "overlap": draw(st.booleans()),
        "slots": slots,
        "prefetch_distance": draw(st.none() | st.integers(1, slots)),
        "cross_step": draw(st.booleans()),
        "weight_view": draw(st.sampled_from(["merged", "split", "composite"])),
        "slice_bytes": draw(st.sampled_from([None, 1024, 1500, 4096, 1 << 20])),
        "peer_order": draw(st.sampled_from(["ascending", "rotated", "interleaved", "permutation"])),
        "pull": draw(st.sampled_from(["all", "routed"])),
        "dep_form": draw(st.sampled_from(["auto", "all_to_all", "all_gather"])),
        "dep_rows": draw(st.sampled_from(["per_rank", "per_expert"])),
        "collectives": draw(st.sampled_from(["auto", "copy", "nccl"])),
        "copy_calls": draw(st.sampled_from(["auto", "plain", "batched"])),
        "micro_batches": draw(st.integers(1, 4)),
    }


ALL = ("replicated", "dep", "weight_gather", "dwdp", "tensor", "pipeline")


@st.composite
def scenarios(draw: st.DrawFn, names: tuple[str, ...] = ALL) -> Scenario:
    model = draw(models())
    ranks = draw(st.integers(1, 6))
    least = -(-model["experts"] // ranks)
    steps = draw(st.integers(1, 3))
    lengths = st.lists(st.integers(1, 40), max_size=3)  # a rank may have nothing to do
    workload: dict[str, Any] = draw(
        st.fixed_dictionaries(
            {
                "kind": st.just("cv"),
                "tokens_per_rank": st.integers(1, 200),
                "cv": st.floats(0, 0.5),
                "isl_tokens": st.integers(1, 64),
                "steps": st.just(steps),
                "router_skew": st.sampled_from([0.0, 1.0]),
                "seed": st.integers(0, 5),
            }
        )
        | st.fixed_dictionaries(
            {
                "kind": st.just("explicit"),
                "lengths": st.lists(lengths, min_size=ranks, max_size=ranks).filter(any),
            }
        )
    )
    return Scenario.create(
        model=model,
        group={"ranks": ranks, "local_experts": draw(st.none() | st.integers(least, model["experts"]))},
        strategy=draw(strategies(names)),
        workload=workload,
        hardware=draw(st.sampled_from(["h100", "gb200"])),
    )
