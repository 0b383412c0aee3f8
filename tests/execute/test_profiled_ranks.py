"""A step under torch.profiler, in real rank processes on the CPU: the way of GPU ranks, with torch's own operations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from rank_scenarios import several_steps

from dwdp_lab.cli.main import main
from dwdp_lab.execute.ranks import Ranks
from dwdp_lab.program.build import build
from dwdp_lab.timeline.profiled import Profiled
from dwdp_lab.timeline.span import Span

pytestmark = pytest.mark.ranks


@pytest.mark.parametrize("name", ["dwdp", "dep", "pipeline"])
def test_operations_of_torch_lie_within_those_of_the_program(name: str) -> None:
    work = several_steps(2).with_strategy(name)  # type: ignore[arg-type]
    with Ranks(2) as ranks:
        plain, result = ranks.run(work), ranks.run(work, profiled=True)
    assert plain.profiled is None
    assert result.output_sha256 == plain.output_sha256
    found = result.profiled
    assert isinstance(found, Profiled)
    batches = work.batches
    tokens = [max(batches.tokens(rank, step) for rank in range(2)) for step in range(batches.steps)]
    assert found.step == tokens.index(max(tokens))
    ops = [(rank, op) for rank, program in enumerate(build(work)) for op in program.ops if op.step == found.step]
    assert sorted((span.rank, span.kind, span.layer) for span in found.spans) == sorted(
        (rank, op.kind, op.layer) for rank, op in ops
    )
    assert len(result.timeline.spans) == len(plain.timeline.spans)
    assert min(span.start_us for span in found.spans) > max(span.end_us for span in result.timeline.spans)
    for rank, op in ops:
        if op.lane == "compute":
            within = [
                kernel for kernel in found.kernels if (kernel.rank, kernel.of) == (rank, f"{op.kind} L{op.layer}")
            ]
            assert {kernel.lane for kernel in within} == {"compute"}
            assert any("mm" in kernel.name or "linear" in kernel.name for kernel in within)
    assert found.outside_us <= found.clock_error_us + 1.0


def test_pulls_of_routed_experts_say_what_they_moved_and_not_what_was_expected() -> None:
    """The step is one that ran before, so its pulls move the same bytes again."""
    work = several_steps(2, **{"strategy.name": "dwdp", "strategy.pull": "routed"})
    with Ranks(2) as ranks:
        result = ranks.run(work, profiled=True)
    found = result.profiled
    assert found is not None

    def pulled(spans: Sequence[Span]) -> dict[tuple[int, int], float]:
        return {(one.rank, one.layer): one.nbytes for one in spans if (one.kind, one.step) == ("pull", found.step)}

    assert len(pulled(found.spans)) == 2 * work.model.moe_layers
    assert pulled(found.spans) == pulled(result.timeline.spans)


def test_the_command_writes_them_into_the_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "trace.json"
    arguments = ["--machine", "cpu", "--set", "model.layers=2", "--set", "workload.tokens_per_rank=32"]
    assert main(["run", *arguments, "--kernels", "--trace", str(path)]) == 0
    capsys.readouterr()
    trace = json.loads(path.read_text(encoding="utf-8"))
    rows = {event["args"]["name"] for event in trace["traceEvents"] if event["name"] == "thread_name"}
    assert {"compute", "compute, profiled", "compute: torch operations"} <= rows
    assert any(event["name"] == "aten::mm" for event in trace["traceEvents"])
    (told,) = trace["otherData"]["runs"]
    assert told["profiled"]["clock_error_us"] > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--kernels", "--trace", "t.json"], "the simulator runs no kernels"),
        (["--machine", "cpu", "--kernels"], "Add --trace FILE"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *arguments]) == 2
    assert said in capsys.readouterr().err
