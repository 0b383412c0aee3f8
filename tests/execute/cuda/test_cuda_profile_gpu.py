"""Kernels of a real GPU under torch.profiler, on the ranks' clock: pytest -m gpu FILE -q -s prints what it measures."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from gpu_ranks import NEEDS_GPUS, qwen, small

from dwdp_lab.execute.ranks import Ranks
from dwdp_lab.program.build import build
from dwdp_lab.timeline.chrome_trace import chrome_trace
from dwdp_lab.timeline.profiled import Profiled

pytestmark = NEEDS_GPUS

MIXED_UP_US = 1e6
"""Clocks that were mixed up (since 1970, since the host or the GPU was started) would be off by far more. What is less
depends on the machine and on who else is at work on it: it is printed, and not judged."""


def profiled(ranks: Ranks, graph: bool = False, **strategy: str) -> Profiled:
    work = qwen(4, 4096, **{f"strategy.{knob}": value for knob, value in strategy.items()})
    plain = ranks.run(work)
    result = ranks.run(work, graph=graph, profiled=True)
    assert result.output_sha256 == plain.output_sha256
    assert result.timeline.environment["host_waits"] == plain.timeline.environment["host_waits"]
    found = result.profiled
    assert found is not None
    assert len(found.spans) == sum(len(program.ops) for program in build(work))
    chrome_trace(result.timeline, [found])
    per_op = Counter((kernel.rank, kernel.lane, kernel.of) for kernel in found.kernels)
    for rank, program in enumerate(build(work)):
        for op in program.ops:
            assert per_op[rank, op.lane, f"{op.kind} L{op.layer}"] >= 1, f"{op} of rank {rank} has no kernel"
    named = sum(bool(kernel.of) for kernel in found.kernels) / len(found.kernels)
    print(
        f"\n{work.strategy.name}: {len(found.kernels)} kernels, {100 * named:.1f} % of a known operation; both clocks "
        f"within {found.clock_error_us:.1f} us, kernels at most {found.outside_us:.1f} us outside of their operations"
    )
    assert named > 0.95
    assert found.outside_us < found.clock_error_us + MIXED_UP_US
    return found


@pytest.mark.parametrize("graph", [False, True], ids=["streams", "graphs"])
def test_every_operation_has_its_kernels_and_pulls_their_copies(graph: bool) -> None:
    with Ranks(2, machine="cuda") as ranks:
        found = profiled(ranks, graph)
        copies = [kernel for kernel in found.kernels if kernel.lane == "copy"]
        print("copies:", Counter(kernel.name for kernel in copies))
        assert copies
        assert all(kernel.name.startswith("Memcpy") for kernel in copies)
        if torch.cuda.device_count() > 1:
            assert any("PtoP" in kernel.name for kernel in copies)
        per_pull = {span.layer: span.nbytes for span in found.spans if span.kind == "pull" and span.rank == 0}
        moved: Counter[str] = Counter()
        for kernel in copies:
            if kernel.rank == 0:
                moved[kernel.of] += int(kernel.nbytes)
        assert moved == {f"pull L{layer}": int(nbytes) for layer, nbytes in per_pull.items()}


@pytest.mark.parametrize(("collectives", "by"), [("nccl", "nccl"), ("copy", "ptop")])
def test_collectives_show_too(collectives: str, by: str) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU: nothing goes over a link")
    with Ranks(2, machine="cuda") as ranks:
        found = profiled(ranks, name="dep", dep_form="all_gather", collectives=collectives)
        assert any(by in kernel.name.lower() for kernel in found.kernels if kernel.lane == "comm")


def test_shared_gpus_and_the_run_after() -> None:
    """More ranks than GPUs; and a run from graphs after a profiled one, in the same processes."""
    with Ranks(3, machine="cuda") as ranks:
        work = small(3)
        expected = ranks.run(work).output_sha256
        assert ranks.run(work, profiled=True).output_sha256 == expected
        assert ranks.run(work, graph=True).output_sha256 == expected
        assert ranks.run(work, graph=True, profiled=True).output_sha256 == expected
