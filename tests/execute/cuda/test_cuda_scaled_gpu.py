"""GPU ranks with experts in e4m3 (`fp8_channel`) on real GPUs: pytest -m gpu tests/execute/cuda/test_cuda_scaled_gpu.py

Outputs and bytes are compared, never times; -s prints what was measured. Two ranks may share a GPU.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from dwdp_kernels.e4m3 import Quantised
from gpu_ranks import NEEDS_GPUS, hashes, qwen, small
from rank_scenarios import assert_equals_oracle

from dwdp_lab.execute.cuda.compute.choose_arithmetic import arithmetic_on
from dwdp_lab.execute.cuda.compute.torch_arithmetic import TorchArithmetic
from dwdp_lab.execute.cuda.experts.staging import tables_of
from dwdp_lab.execute.ranks import Ranks
from dwdp_lab.model.kept_experts import as_stored, kept_weights
from dwdp_lab.model.rounding import error_bound, relative_error
from dwdp_lab.model.weights import expert_weights
from dwdp_lab.scenario.scenario import Scenario

SCALED = {"model.expert_dtype": "fp8_channel"}


def has_e4m3() -> bool:
    return torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 9)


pytestmark = [*NEEDS_GPUS, pytest.mark.skipif(not has_e4m3(), reason="e4m3 needs compute capability 8.9 or later")]


@pytest.fixture(scope="module")
def pair() -> Iterator[Ranks]:
    with Ranks(2, machine="cuda") as group:
        yield group


def scaled(**changes: Any) -> Scenario:
    return small(2, **SCALED | changes)


@pytest.mark.parametrize("weight_view", ["split", "merged", "composite"])
def test_every_view_order_slicing_and_number_of_slots_gives_the_same_bits(pair: Ranks, weight_view: str) -> None:
    base = scaled()
    expected = hashes(pair, base.with_strategy("replicated"))
    orders = ("ascending", "rotated", "interleaved", "permutation")
    slicing = itertools.cycle((None, "64KiB", 50_000, "1MiB"))
    for order, slots in itertools.product(orders, (1, 2, 3)):
        knobs = {
            "strategy.weight_view": weight_view,
            "strategy.peer_order": order,
            "strategy.slots": slots,
            "strategy.slice_bytes": next(slicing),
            "strategy.cross_step": slots == 2,
        }
        assert hashes(pair, base.replace(**knobs)) == expected, knobs


@pytest.mark.parametrize(
    "knobs",
    [
        {"strategy.overlap": False},
        {"strategy.pull": "routed"},
        {"group.local_experts": 15, "strategy.weight_view": "composite"},
        {"strategy.name": "weight_gather"},
    ],
    ids=lambda knobs: "-".join(f"{name.split('.')[1]}={value}" for name, value in knobs.items()),
)
def test_other_schedules_give_the_same_bits(pair: Ranks, knobs: dict[str, Any]) -> None:
    assert hashes(pair, scaled(**knobs)) == hashes(pair, scaled(**{"strategy.name": "replicated"}))


def test_a_graph_replays_the_same_bits(pair: Ranks) -> None:
    work = scaled()
    expected = hashes(pair, work)
    assert pair.run(work, graph=True).output_sha256 == expected
    alone = work.with_strategy("replicated")
    assert pair.run(alone, graph=True).output_sha256 == expected


FORMS: list[dict[str, Any]] = [
    {"strategy.name": "replicated"},
    {"strategy.name": "dwdp"},
    {"strategy.name": "dep", "strategy.dep_form": "all_gather"},
    {"strategy.name": "dep", "strategy.dep_form": "all_to_all", "strategy.dep_rows": "per_rank"},
    {"strategy.name": "dep", "strategy.dep_form": "all_to_all", "strategy.dep_rows": "per_expert"},
    {"strategy.name": "tensor"},
    {"strategy.name": "pipeline"},
]


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(form.values()))
def test_strategies_compute_the_model(pair: Ranks, form: dict[str, Any], dtype: str) -> None:
    work = scaled(**{"model.dtype": dtype}, **form)
    assert_equals_oracle(work, pair.run(work, outputs=True))


def test_a_pull_moves_the_planned_bytes(pair: Ranks) -> None:
    """12 of 24 experts, each [384, 256] and [256, 192] in e4m3 with a scale for each of the 640 rows."""
    spans = pair.run(scaled()).timeline.spans
    pulls = [span.nbytes for span in spans if span.kind == "pull"]
    assert pulls
    assert set(pulls) == {12 * (384 * 256 + 256 * 192 + 4 * 640)}


def test_a_gpu_quantises_to_the_bits_of_a_cpu() -> None:
    shape = qwen(1, 16, **SCALED).model
    for expert in (0, 77):
        here, there = (kept_weights(shape, expert_weights(shape, 0, expert, 3, device)) for device in ("cpu", "cuda"))
        for one, other in zip(here, there, strict=True):
            assert isinstance(one, Quantised)
            assert torch.equal(as_stored(one), as_stored(other).cpu())


def test_kernels_agree_with_torch() -> None:
    """Visits to experts that are elsewhere count for nothing in both."""
    torch.manual_seed(0)
    shape = qwen(1, 16, **SCALED).model
    made = [kept_weights(shape, expert_weights(shape, 0, expert, 0, "cuda")) for expert in range(32)]
    memory = {name: torch.stack([as_stored(each[place]) for each in made]) for place, name in enumerate(("w13", "w2"))}
    tables = tables_of(shape, memory)
    x = torch.randn(777, shape.hidden, device="cuda").bfloat16()
    ids = torch.randint(-8, 40, (777, 8), device="cuda", dtype=torch.int32)
    weights = torch.rand(777, 8, device="cuda").bfloat16()
    kernels, plain = arithmetic_on(x.device), TorchArithmetic()
    found = kernels.experts(x, ids, weights, tables, ids.numel())
    assert relative_error(found, plain.experts(x, ids, weights, tables, ids.numel())) <= 3e-2
    assert torch.equal(found, kernels.beside_collectives().experts(x, ids, weights, tables, ids.numel()))
    assert torch.equal(found, kernels.experts(kernels.quantise(x), ids, weights, tables, ids.numel()))


def test_layers_of_a_real_model(pair: Ranks) -> None:
    """4 layers of Qwen3-30B-A3B: the same bits from all views, and DEP's within rounding in one layer."""
    work = qwen(4, 4096, **SCALED)
    expected = hashes(pair, work.with_strategy("replicated"))
    for weight_view in ("split", "merged", "composite"):
        result = pair.run(work.replace(**{"strategy.weight_view": weight_view}))
        assert result.output_sha256 == expected
        print(f"\n{weight_view}: {(result.run_us or 0) / 4e3:.2f} ms a layer")
    one = qwen(1, 4096, **SCALED)
    whole, parts = (pair.run(one.with_strategy(name), outputs=True) for name in ("replicated", "dep"))
    assert whole.outputs is not None
    assert parts.outputs is not None
    for rank in range(2):
        assert relative_error(parts.outputs[rank][0], whole.outputs[rank][0]) <= 2 * error_bound(one.model)
