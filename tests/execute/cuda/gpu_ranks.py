"""What tests of GPU ranks share: scenarios, and why they cannot run here."""

from __future__ import annotations

from typing import Any

import pytest

from dwdp_lab.execute.cuda.refusal import check_gpus_here
from dwdp_lab.execute.ranks import Ranks
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario

# experts of 192 and 96 KiB: views meet pages of 2 MiB that hold local and pulled ones
MODEL: dict[str, Any] = {
    "name": "test",
    "layers": 5,
    "hidden": 256,
    "attention": {"kind": "gqa", "heads": 4, "kv_heads": 2, "head_dim": 64},
    "experts": 24,
    "top_k": 4,
    "expert_intermediate": 192,
    "shared_experts": 1,
    "dense_layers": 1,
    "dense_intermediate": 512,
    "dtype": "bf16",
    "expert_dtype": "bf16",
}
STEPS = {"kind": "cv", "tokens_per_rank": 200, "cv": 0.4, "isl_tokens": 64, "steps": 3, "prefix_hit": 0.3}
QWEN = "qwen3-30b-a3b"


def why_not() -> str | None:
    """Why these tests cannot run here; None when they can."""
    try:
        check_gpus_here()
    except ScenarioError as error:
        return str(error)
    return None


NEEDS_GPUS = [
    pytest.mark.gpu,
    pytest.mark.ranks,
    pytest.mark.timeout(600),  # Triton compiles each kernel once
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]


def small(size: int, **changes: Any) -> Scenario:
    return Scenario.create(model=MODEL, group={"ranks": size}, workload=STEPS).replace(**changes)


def qwen(layers: int, tokens: int, **changes: Any) -> Scenario:
    workload = {"kind": "explicit", "lengths": [[tokens], [tokens // 2, tokens // 2]]}
    base = Scenario.create(model={"preset": QWEN, "layers": layers}, group={"ranks": 2}, workload=workload)
    return base.replace(**changes)


def hashes(group: Ranks, work: Scenario) -> tuple[str, ...]:
    return group.run(work).output_sha256
