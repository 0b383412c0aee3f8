"""What only ranks with a GPU each can show: copies over the link beside compute, and rivals (-s prints it).

pytest -m gpu tests/execute/cuda/test_cuda_own_gpus_gpu.py -q -s
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import Any

import pytest
import torch
from gpu_ranks import NEEDS_GPUS, qwen

from dwdp_lab.execute.ranks import Ranks
from dwdp_lab.execute.run_result import RunResult
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.timeline.metrics import metrics

pytestmark = [
    *NEEDS_GPUS,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="two GPUs or more are needed"),
]

REPEATS = 3
LAYERS = 8


@pytest.fixture(scope="module")
def pair() -> Iterator[Ranks]:
    with Ranks(2, machine="cuda") as group:
        yield group


def steps(tokens: int, cv: float = 0.0, **changes: Any) -> Scenario:
    """Steps that follow one another, as in a server: the next one's first pulls start in time."""
    workload = {"kind": "cv", "tokens_per_rank": tokens, "cv": cv, "steps": 4}
    return qwen(LAYERS, tokens).replace(workload=workload).replace(**{"strategy.cross_step": True, **changes})


def results(pair: Ranks, variants: dict[str, Scenario]) -> dict[str, list[RunResult]]:
    """Every variant several times, taking turns."""
    found: dict[str, list[RunResult]] = {name: [] for name in variants}
    for _ in range(REPEATS):
        for name, work in variants.items():
            found[name].append(pair.run(work))
    return found


def told(name: str, runs: list[RunResult], base_us: float) -> float:
    """Print a line about the runs; the median time of one, in microseconds."""
    took_us = median(run.run_us or 0.0 for run in runs)
    figures = metrics(runs[-1].timeline)
    environment = runs[-1].timeline.environment
    print(
        f"\n{name:>24}: {took_us / 4e3:8.2f} ms a step, {took_us / (base_us or took_us):.3f} x replicated; "
        f"exposed copy {figures.share(figures.exposed_copy_ms):.2f} %, communication "
        f"{figures.share(figures.communication_ms):.1f} %, waits {figures.wait_pct:.1f} %, idle "
        f"{figures.share(figures.idle_ms):.1f} %; copies {environment.get('copies')}, "
        f"{environment['host_waits']} host waits, {environment['allocations']} allocations",
        end="",
    )
    return took_us


def test_pulls_run_beside_compute_and_bring_the_same_bits(pair: Ranks) -> None:
    work = steps(16384)
    variants = {
        "replicated": work.with_strategy("replicated"),
        "dwdp": work,
        "dwdp, 4 MiB slices": work.replace(**{"strategy.slice_bytes": "4MiB"}),
        # beside the experts' products, which feel copies least
        "dwdp, distance 1": work.replace(**{"strategy.prefetch_distance": 1}),
        "dwdp, distance 1, 4 MiB": work.replace(**{"strategy.prefetch_distance": 1, "strategy.slice_bytes": "4MiB"}),
        "dwdp, no overlap": work.replace(**{"strategy.overlap": False}),
        "weight_gather": work.with_strategy("weight_gather"),
    }
    found = results(pair, variants)
    base_us = told("replicated", found["replicated"], 0.0)
    for name, runs in found.items():
        if name != "replicated":
            told(name, runs, base_us)
        assert {run.output_sha256 for run in runs} == {found["replicated"][0].output_sha256}, name
    for name in variants.keys() - {"replicated", "dwdp, no overlap", "weight_gather"}:
        # if copies waited for kernels that fill all processors, as within a GPU, next to none would be hidden
        assert metrics(found[name][0].timeline).overlap_pct > 50, name


NOTES = {"copy": "collectives by copy engine through peer memory", "nccl": "collectives over NCCL"}


@pytest.mark.parametrize("collectives", ["copy", "nccl"])
@pytest.mark.parametrize("cv", [0.0, 0.2])
def test_rivals(pair: Ranks, cv: float, collectives: str) -> None:
    """Printed, never compared: who is faster depends on the machine."""
    work = steps(16384, cv, **{"strategy.collectives": collectives})
    names = ("replicated", "dwdp", "tensor", "pipeline", "weight_gather")
    variants = {name: work.with_strategy(name) for name in names}
    forms = {"all-gather": {"strategy.dep_form": "all_gather"}, "all-to-all": {"strategy.dep_form": "all_to_all"}}
    for form, knobs in forms.items():
        variants[f"dep, {form}"] = work.with_strategy("dep").replace(**knobs)
    found = results(pair, variants)
    base_us = told(f"replicated, CV {cv}, {collectives}", found["replicated"], 0.0)
    for name, runs in found.items():
        if name != "replicated":
            told(name, runs, base_us)
        assert all(NOTES[collectives] in run.timeline.notes for run in runs) == (name not in ("replicated", "dwdp"))
        assert len({run.output_sha256 for run in runs}) == 1, f"{name}: other bits from run to run"
