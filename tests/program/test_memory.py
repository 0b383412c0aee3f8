"""What a rank keeps, by hand."""

from __future__ import annotations

from dwdp_lab.program.memory import Ledger, ledger
from dwdp_lab.scenario.scenario import Scenario

ATTENTION = 7168 * 1536 + 1536 * 128 * 192 + 7168 * (512 + 64) + 512 * 128 * 256 + 128 * 128 * 7168
EXPERT = 3 * 7168 * 2048


def test_deepseek_r1_by_hand() -> None:
    """61 layers, 3 of them dense; NVFP4 experts, the rest bf16; one request of 6,000 tokens, 2,000 of them cached."""
    scenario = Scenario.create(
        model={"preset": "deepseek-r1", "expert_dtype": "nvfp4"},
        group={"ranks": 4},
        workload={"kind": "explicit", "lengths": [[6000], [30], [30], [30]], "prefix_hit": 1 / 3},
        strategy={"weight_view": "split", "slots": 2},
    )
    assert scenario.batches.tokens(0) == 4000
    assert ledger(scenario, "dwdp") == Ledger(
        attention=61 * ATTENTION * 2,
        dense=3 * 3 * 7168 * 18432 * 2 + 58 * (EXPERT * 9 / 16 + 7168 * 256 * 2),
        embeddings=2 * 129280 * 7168 * 2,
        experts=58 * 64 * EXPERT * 9 / 16,
        staging=2 * 192 * EXPERT * 9 / 16,  # the paper's two buffers of 4.756 GB
        keys_values=61 * 6000 * (512 + 64) * 2,  # compressed
        activations=4000 * 8 * (2 * 7168 + 3 * 2048) * 2,
    )


def test_only_those_that_move_weights_have_slots_for_them() -> None:
    merged = Scenario.create(model="qwen3-30b-a3b", group={"ranks": 4}, strategy={"weight_view": "merged", "slots": 3})
    expert = 3 * 2048 * 768 * 2
    staging = {name: ledger(merged, name).staging for name in ("replicated", "dep", "weight_gather", "dwdp")}  # type: ignore[arg-type]
    assert staging == {"replicated": 0, "dep": 0, "weight_gather": 3 * 128 * expert, "dwdp": 3 * 128 * expert}
    split = merged.replace(**{"strategy.weight_view": "split"})
    assert ledger(split, "dwdp").staging == 3 * 96 * expert
    assert ledger(merged.replace(group={"ranks": 1}), "dwdp").staging == 0


def test_quantised_projections_and_dense_layers_by_hand() -> None:
    scenario = Scenario.create(model="deepseek-r1-nvfp4", group={"ranks": 1}, workload={"tokens_per_rank": 1})
    held, router = ledger(scenario, "replicated"), 7168 * 256 * 2
    assert held.attention == 61 * ATTENTION * 9 / 16
    assert held.dense == 3 * 3 * 7168 * 18432 * 9 / 16 + 58 * (EXPERT * 9 / 16 + router)
    assert held.embeddings == 2 * 129280 * 7168 * 2
