"""One result from the reports of all ranks."""

from __future__ import annotations

from typing import Any

from rank_scenarios import scenario

from dwdp_lab.execute.gpu_sample import GpuSample
from dwdp_lab.execute.messages import Finished
from dwdp_lab.execute.report import span_of
from dwdp_lab.execute.run_result import assemble, host_environment
from dwdp_lab.program.build import build

SAMPLE = GpuSample(1.0, 1755.0, 600.0, 99.0, (), None, None)


def report(rank: int, **more: Any) -> Finished:
    work = scenario(2, [[3], [4]], **{"strategy.name": "replicated"})
    spans = [span_of(rank, op, 10.0 * index, 10.0 * index + 9) for index, op in enumerate(build(work)[rank].ops)]
    return Finished(tuple(spans), f"hash {rank}", ("same note", f"note of {rank}"), None, None, **more)


def test_gpu_ranks_say_where_they_ran_and_how_well_their_clocks_agree() -> None:
    work = scenario(2, [[3], [4]], **{"strategy.name": "replicated"})
    finished = [
        report(
            0, run_us=90.0, clock_error_us=3.0, environment={"copies": "plain", "memory_bytes": 5}, samples=(SAMPLE,)
        ),
        report(1, run_us=95.5, clock_error_us=2.0, environment={"copies": "plain"}),
    ]
    of_ranks = {"torch": "2.13", "device": "Card", "gpus": 1, "ranks_per_gpu": 2}
    result = assemble(work, build(work), finished, "cuda", host_environment(of_ranks), 12.0)
    timeline = result.timeline
    assert (timeline.machine, timeline.provenance, timeline.strategy) == ("cuda", "measured", "replicated")
    assert timeline.notes == (
        "2 ranks share a GPU",
        "same note",
        "note of 0",
        "note of 1",
        "ranks' clocks agree within 6.0 us",
    )
    told = timeline.environment
    assert (told["device"], told["copies"], told["memory_bytes"]) == ("Card", "plain", [5, None])
    assert told["cpu"] != "Card"
    assert (result.run_us, result.samples) == (95.5, ((SAMPLE,), ()))
    assert result.output_sha256 == ("hash 0", "hash 1")


def test_cpu_ranks_read_one_clock() -> None:
    work = scenario(2, [[3], [4]], **{"strategy.name": "replicated"})
    environment = host_environment({"torch": "2.13"}) | {"cpus_allowed": 64}
    result = assemble(work, build(work), [report(0), report(1)], "cpu", environment, 12.0)
    assert result.timeline.machine == "cpu"
    assert result.timeline.notes == ("same note", "note of 0", "note of 1")
    assert result.run_us is None
    assert result.timeline.environment == environment
    assert result.timeline.environment["device"] == result.timeline.environment["cpu"]
