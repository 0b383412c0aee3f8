"""Outputs and timelines of GPU ranks on real GPUs: `make test-gpu`, or pytest -m gpu tests/execute/cuda -q -s, which
prints what it measures.

Where there are fewer GPUs than ranks these share them. Outputs are compared, never times.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from gpu_ranks import NEEDS_GPUS, hashes, qwen, small
from rank_scenarios import assert_equals_oracle

from dwdp_lab.execute.ranks import Ranks
from dwdp_lab.execute.run_result import RunResult
from dwdp_lab.model.rounding import error_bound, relative_error
from dwdp_lab.program.build import build
from dwdp_lab.program.rank_view import StrategyFunction
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.teach import races

pytestmark = NEEDS_GPUS


@pytest.fixture(scope="module", params=[2, 3, 4], ids=lambda size: f"{size} ranks")
def ranks(request: pytest.FixtureRequest) -> Iterator[Ranks]:
    """A group for all tests that want one of this size; on one GPU a fourth process adds nothing."""
    if request.param == 4 and torch.cuda.device_count() < 2:
        pytest.skip("one GPU: three ranks share it already")
    with Ranks(request.param, machine="cuda") as group:
        yield group


@pytest.fixture(scope="module")
def pair() -> Iterator[Ranks]:
    with Ranks(2, machine="cuda") as group:
        yield group


@pytest.mark.parametrize("weight_view", ["split", "merged", "composite"])
def test_every_view_order_slicing_and_number_of_slots_gives_the_same_bits(ranks: Ranks, weight_view: str) -> None:
    base = small(ranks.size)
    expected = hashes(ranks, base.with_strategy("replicated"))
    orders = ("ascending", "rotated", "interleaved", "permutation")
    slicing = itertools.cycle((None, "64KiB", 50_000, "1MiB"))
    calls = itertools.cycle(("auto", "plain", "batched"))
    for order, slots in itertools.product(orders, (1, 2, 3)):
        knobs = {
            "strategy.weight_view": weight_view,
            "strategy.peer_order": order,
            "strategy.slots": slots,
            "strategy.slice_bytes": next(slicing),
            "strategy.copy_calls": next(calls),
            "strategy.cross_step": slots == 2,
        }
        assert hashes(ranks, base.replace(**knobs)) == expected, knobs


@pytest.mark.parametrize(
    "knobs",
    [
        {"strategy.overlap": False},
        {"strategy.prefetch_distance": 1, "strategy.cross_step": True},
        {"strategy.pull": "routed"},
        {"group.local_experts": 24},
        {"group.local_experts": 15, "strategy.weight_view": "composite"},
        {"strategy.name": "weight_gather"},
        {"strategy.name": "pipeline"},
    ],
    ids=lambda knobs: "-".join(f"{name.split('.')[1]}={value}" for name, value in knobs.items()),
)
def test_other_schedules_give_the_same_bits(ranks: Ranks, knobs: dict[str, Any]) -> None:
    base = small(ranks.size)
    expected = hashes(ranks, base.with_strategy("replicated"))
    if knobs.get("strategy.name") == "pipeline":  # its batches are other ones, for which other tiles may be chosen
        assert_equals_oracle(base, ranks.run(base.replace(**knobs), outputs=True))
    else:
        assert hashes(ranks, base.replace(**knobs)) == expected


FORMS: list[dict[str, Any]] = [
    {"strategy.name": "replicated"},
    {"strategy.name": "dep", "strategy.dep_form": "all_gather"},
    {"strategy.name": "dep", "strategy.dep_form": "all_to_all", "strategy.dep_rows": "per_rank"},
    {"strategy.name": "dep", "strategy.dep_form": "all_to_all", "strategy.dep_rows": "per_expert"},
    {"strategy.name": "tensor"},
]


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(form.values()))
def test_strategies_compute_the_model(ranks: Ranks, form: dict[str, Any], dtype: str) -> None:
    work = small(ranks.size, **{"model.dtype": dtype, "model.expert_dtype": dtype}, **form)
    assert_equals_oracle(work, ranks.run(work, outputs=True))


@pytest.mark.parametrize("form", FORMS[1:4], ids=lambda form: "-".join(form.values()))
def test_a_rank_without_tokens(ranks: Ranks, form: dict[str, Any]) -> None:
    lengths = [[70, 30], [], [1], [17]][: ranks.size]
    work = small(ranks.size, **form).replace(workload={"kind": "explicit", "lengths": lengths})
    assert_equals_oracle(work, ranks.run(work, outputs=True))


def test_layers_of_a_real_model(pair: Ranks) -> None:
    """8 layers of Qwen3-30B-A3B: the same bits from all views; and one layer, whose experts no rounding can change,
    under DEP within rounding."""
    work = qwen(8, 4096)
    expected = hashes(pair, work.with_strategy("replicated"))
    for weight_view in ("split", "merged", "composite"):
        sliced = work.replace(**{"strategy.weight_view": weight_view, "strategy.slice_bytes": "4MiB"})
        for variant in (sliced, sliced.replace(**{"strategy.slice_bytes": None})):
            result = pair.run(variant)
            assert result.output_sha256 == expected
            assert result.run_us is not None
            print(f"\n{weight_view}, slices {variant.strategy.slice_bytes}: {result.run_us / 8e3:.2f} ms a layer")
    one = qwen(1, 4096)
    whole, parts = (pair.run(one.with_strategy(name), outputs=True) for name in ("replicated", "dep"))
    assert whole.outputs is not None
    assert parts.outputs is not None
    for rank in range(2):
        error = relative_error(parts.outputs[rank][0], whole.outputs[rank][0])
        assert error <= 2 * error_bound(one.model)


ONE_STEP = (races.other_slot, races.too_early)


@pytest.mark.parametrize("race", [*ONE_STEP, races.new_step, races.last_layer], ids=lambda race: race.__name__)
def test_a_shipped_race_shows(pair: Ranks, race: StrategyFunction, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the checker some run reads weights of another layer. So many tokens that pulls, which take as long whatever
    the tokens, come before the experts that they must not overtake."""
    if torch.cuda.device_count() < 2:
        pytest.skip("within one GPU a copy waits for the kernels before it, so that no copy overtakes them")
    monkeypatch.setattr("dwdp_lab.execute.ranks.verify", lambda *_: None)
    work = qwen(4, 24576)
    if race not in ONE_STEP:
        work = work.replace(workload={"kind": "cv", "tokens_per_rank": 24576, "isl_tokens": 8192, "steps": 3})
    expected = hashes(pair, work.with_strategy("replicated"))
    assert hashes(pair, work) == expected
    found = [pair.run(work, programs=build(work, race)).output_sha256 for _ in range(5)]
    assert any(each != expected for each in found)


def test_the_host_only_queues(pair: Ranks) -> None:
    """After warming up nothing waits for the GPU, and nothing asks the driver for memory."""
    for name in ("replicated", "dwdp", "weight_gather", "dep"):
        work = small(2, **{"strategy.name": name, "strategy.dep_form": "all_gather"})
        environment = pair.run(work).timeline.environment
        assert environment["host_waits"] == 0, name
        if name in ("replicated", "dwdp"):
            assert environment["allocations"] == 0, name
        # DEP's steps hand tensors from lane to lane, and no step's memory is free for the next while the gate is closed
        print(f"\n{name}: {environment['allocations']} requests to the driver for memory")


def assert_in_order(work: Scenario, result: RunResult) -> None:
    """Every operation has left a span, and lanes run one operation at a time (events tell to half a microsecond)."""
    spans = [span for span in result.timeline.spans if span.kind != "wait_peers"]
    assert len(spans) == sum(len(program.ops) for program in build(work))
    for rank, lane in itertools.product(range(work.ranks), ("compute", "copy", "comm")):
        mine = sorted((span for span in spans if (span.rank, span.lane) == (rank, lane)), key=lambda s: s.start_us)
        assert all(0 <= span.start_us <= span.end_us for span in mine)
        assert all(after.start_us >= before.end_us - 2.0 for before, after in itertools.pairwise(mine))


@pytest.mark.parametrize("name", ["replicated", "dwdp", "dep", "weight_gather"])
def test_timelines(pair: Ranks, name: str) -> None:
    work = small(2, **{"strategy.name": name})
    result = pair.run(work)
    assert_in_order(work, result)
    timeline = result.timeline
    assert (timeline.machine, timeline.provenance) == ("cuda", "measured")
    told = timeline.environment
    assert {"device", "driver", "cuda", "torch", "triton", "date", "gpus", "ranks_per_gpu"} <= set(told)
    assert any("clocks agree within" in note for note in timeline.notes)
    assert any("share a GPU" in note for note in timeline.notes) == (told["ranks_per_gpu"] > 1)
    json.dumps(told)
    print(f"\n{name}: {timeline.notes}")


def test_recording_is_not_computing(pair: Ranks) -> None:
    work = qwen(4, 8192)
    with_spans, without = pair.run(work), pair.run(work, recorded=False)
    assert without.output_sha256 == with_spans.output_sha256
    assert without.timeline.spans == ()
    assert with_spans.run_us is not None
    assert without.run_us is not None
    print(f"\nrecording costs {100 * (with_spans.run_us / without.run_us - 1):.1f} % (2 are allowed)")
    for samples in with_spans.samples:
        assert [sample.at_us for sample in samples] == sorted(sample.at_us for sample in samples)
    if importlib.util.find_spec("pynvml") is not None:
        looked_at = {rank for rank, samples in enumerate(with_spans.samples) if samples}
        assert looked_at == set(range(min(2, torch.cuda.device_count())))
        assert all(sample.sm_mhz for rank in looked_at for sample in with_spans.samples[rank])
