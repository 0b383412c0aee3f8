"""DEP's all-to-all by copies on real GPUs: the bits of the all-gather form, and of NCCL's all-to-all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gpu_ranks import MODEL, NEEDS_GPUS, qwen, small
from rank_scenarios import assert_equals_oracle

from dwdp_lab.execute.ranks import Ranks
from dwdp_lab.scenario.scenario import Scenario

pytestmark = NEEDS_GPUS

BY_COPIES = "collectives by copy engine through peer memory"
DEP = {"strategy.name": "dep", "strategy.collectives": "copy"}
MODELS: dict[str, dict[str, Any]] = {
    "bf16": MODEL,
    "fp32": MODEL | {"name": "fp32", "dtype": "fp32", "expert_dtype": "fp32"},
    "e4m3": MODEL | {"name": "e4m3", "expert_dtype": "fp8_channel"},
    "of one expert": MODEL | {"name": "of one expert", "top_k": 1},
}
"""In the last one a token visits one rank alone."""


def forms(work: Scenario) -> tuple[Scenario, Scenario]:
    return work.replace(**{"strategy.dep_form": "all_gather"}), work.replace(**{"strategy.dep_form": "all_to_all"})


@pytest.mark.parametrize("ranks", [2, 3])
def test_the_bits_of_the_all_gather_form(ranks: int) -> None:
    with Ranks(ranks, machine="cuda") as group:
        for name, model in MODELS.items():
            base = small(ranks, model=model, **DEP)
            lengths = [[70, 9], [], [1]][:ranks]
            for work in (base, base.replace(workload={"kind": "explicit", "lengths": lengths})):
                gathered, to_each = forms(work)
                expected = group.run(gathered).output_sha256
                first = group.run(to_each, outputs=True)
                assert BY_COPIES in first.timeline.notes
                assert_equals_oracle(to_each, first)
                found = [first.output_sha256, *(group.run(to_each).output_sha256 for _ in range(3))]
                assert all(hashes == expected for hashes in found), name


def test_the_bits_of_the_all_gather_form_in_pieces_of_places() -> None:
    """As many rows of a real model as fill places several times."""
    with Ranks(2, machine="cuda") as group:
        gathered, to_each = forms(qwen(2, 20000, **DEP, **{"model.top_k": 2}))
        expected = group.run(gathered).output_sha256
        for _ in range(3):
            assert group.run(to_each).output_sha256 == expected


def test_the_bits_of_nccl_s_all_to_all() -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("NCCL wants a GPU for each rank: two GPUs or more")
    with Ranks(2, machine="cuda") as group:
        for name, model in MODELS.items():
            _, work = forms(small(2, model=model, **DEP))
            by_copies = group.run(work).output_sha256
            assert group.run(work.replace(**{"strategy.collectives": "nccl"})).output_sha256 == by_copies, name
