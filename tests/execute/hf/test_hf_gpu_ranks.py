"""Models of transformers on real GPU ranks, which may share one GPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from gpu_ranks import NEEDS_GPUS
from tiny_models import FAMILIES, tiny_model, token_ids, transformers_here

from dwdp_lab.execute.hf.run_model import HfResult, run_hf_model
from dwdp_lab.execute.ranks import Ranks
from dwdp_lab.model.hf.interface import use_hf_experts
from dwdp_lab.timeline.metrics import metrics

pytestmark = NEEDS_GPUS

PROMPTS = [token_ids(2, 40).tolist(), token_ids(1, 64, seed=2).tolist()]
KNOBS: list[dict[str, Any]] = [
    {"weight_view": "split"},
    {"weight_view": "merged", "slots": 3},
    {"weight_view": "composite"},
    {"pull": "routed"},
    {"slice_bytes": 1024, "copy_calls": "plain"},
]


@pytest.fixture(scope="module")
def gpu_ranks() -> Iterator[Ranks]:
    transformers_here()
    with Ranks(2, machine="cuda") as ranks:
        yield ranks


def answers(run: HfResult) -> list[torch.Tensor]:
    found = [*run.logits, *run.tokens]
    return [tensor for tensor in found if tensor is not None]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_dwdp_equals_replicated_bit_for_bit(gpu_ranks: Ranks, tmp_path: Path, family: str, dtype: torch.dtype) -> None:
    model = tiny_model(family, dtype)
    model.save_pretrained(tmp_path)
    use_hf_experts(model)
    for new_tokens in (0, 3):
        given = {"new_tokens": new_tokens, "all_logits": True}
        expected = answers(run_hf_model(gpu_ranks, tmp_path, PROMPTS, strategy={"name": "replicated"}, **given))
        assert len(expected) == 2
        for knobs in KNOBS:
            run = run_hf_model(gpu_ranks, tmp_path, PROMPTS, strategy=knobs, **given)
            assert all(torch.equal(a, b) for a, b in zip(answers(run), expected, strict=True))
            assert run.timeline.machine == "cuda"
            assert 0 <= metrics(run.timeline).overlap_pct <= 100
            pulls = [span for span in run.timeline.spans if span.kind == "pull"]
            experts = [span for span in run.timeline.spans if span.kind == "experts"]
            # an event's time is told in 32 bits
            assert all(pull.end_us <= used.start_us + 10 for pull, used in zip(pulls, experts, strict=True))
        if not new_tokens and dtype == torch.float32:
            with torch.inference_mode():
                on_cpu = [model(torch.tensor(prompts)).logits for prompts in PROMPTS]
            for mine, theirs in zip(expected, on_cpu, strict=True):
                assert (mine - theirs).norm() <= 1e-4 * theirs.norm()
