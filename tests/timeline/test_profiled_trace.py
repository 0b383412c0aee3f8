"""A profiled step lies beneath the lanes, under the step it repeats, and changes nothing else."""

from __future__ import annotations

from typing import Any

from dwdp_lab.timeline.chrome_trace import chrome_trace
from dwdp_lab.timeline.profiled import KernelSpan, Profiled, together
from dwdp_lab.timeline.span import Span, Timeline

RUN = Timeline(
    spans=(
        Span(0, "compute", "attention", 0, 0, 0.0, 10.0),
        Span(0, "compute", "attention", 1, 0, 10.0, 20.0),
        Span(0, "copy", "pull", 1, 0, 12.0, 18.0, nbytes=100.0),
        Span(1, "compute", "attention", 1, 0, 11.0, 21.0),
    ),
    strategy="dwdp",
    machine="cuda",
    provenance="measured",
    tokens=(4, 4),
    steps=2,
)


def part(rank: int, late_us: float, lane: str = "compute") -> Profiled:
    """Rank 0's operation begins at 1000 us."""
    start = 1000.0 + late_us
    return Profiled(
        step=1,
        spans=(Span(rank, lane, "attention", 1, 0, start, start + 12.0),),
        kernels=(
            KernelSpan(rank, lane, "gemm", start + 1, start + 3, of="attention L0"),
            KernelSpan(rank, "stream 9", "Memcpy PtoP", start + 2, start + 9, 4096.0),
        ),
        clock_error_us=1.0 + rank,
        outside_us=0.5,
    )


def events(trace: dict[str, Any], phase: str, pid: int) -> list[dict[str, Any]]:
    return [event for event in trace["traceEvents"] if (event["ph"], event["pid"]) == (phase, pid)]


def test_rows_beneath_the_lanes() -> None:
    both = together([part(0, 0.0), part(1, 2.5, "comm")])
    assert both is not None
    assert (both.step, both.clock_error_us, both.outside_us) == (1, 2.0, 0.5)
    plain, trace = chrome_trace([RUN, RUN]), chrome_trace([RUN, RUN], [None, both])
    more = [event for event in trace["traceEvents"] if event not in plain["traceEvents"]]
    assert [event for event in trace["traceEvents"] if event not in more] == plain["traceEvents"]
    assert {event["pid"] for event in more} == {2, 3}  # ranks of the second timeline
    names = {event["tid"]: event["args"]["name"] for event in events(trace, "M", 3) if event["name"] == "thread_name"}
    assert [names[tid] for tid in sorted(names)] == [
        "compute",
        "copy",
        "compute, profiled",
        "compute: kernels",
        "comm, profiled",
        "comm: kernels",
        "stream 9, profiled",
        "stream 9: kernels",
    ]
    added = [event for event in more if event["ph"] == "X"]
    assert [(e["name"], e["pid"], names[e["tid"]], e["ts"], e["dur"]) for e in added] == [
        ("attention L0", 2, "compute, profiled", 10.0, 12.0),  # where that step of the run begins
        ("attention L0", 3, "comm, profiled", 12.5, 12.0),  # 2.5 us later, as in the profiled step itself
        ("gemm", 2, "compute: kernels", 11.0, 2.0),
        ("Memcpy PtoP", 2, "stream 9: kernels", 12.0, 7.0),
        ("gemm", 3, "comm: kernels", 13.5, 2.0),
        ("Memcpy PtoP", 3, "stream 9: kernels", 14.5, 7.0),
    ]
    assert added[2]["args"] == {"of": "attention L0"}
    assert added[3]["args"] == {"of": "", "bytes": 4096.0}


def test_what_it_is_worth_is_told() -> None:
    runs = chrome_trace([RUN, RUN], [part(0, 0.0)])["otherData"]["runs"]
    told = runs[0].pop("profiled")
    assert (told["step"], told["moved_us"], told["clock_error_us"]) == (1, -990.0, 1.0)
    assert told["outside_operations_us"] == 0.5
    assert runs[0] == runs[1]


def test_a_rank_without_work_and_no_rank_at_all() -> None:
    assert together([]) is None
    empty = Profiled(1, (), (), 0.0, 0.0)
    assert chrome_trace(RUN, [empty])["traceEvents"] == chrome_trace(RUN)["traceEvents"]
