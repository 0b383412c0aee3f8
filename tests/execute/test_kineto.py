"""A profiler's trace on the host's clock, whichever clock it counts on."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwdp_lab.execute.kineto import MARK, Bracket, difference, read_trace


def entry(name: str, start_us: float, dur_us: float, cat: str = "user_annotation", **more: Any) -> dict[str, Any]:
    return {"ph": "X", "cat": cat, "name": name, "pid": 1, "tid": 7, "ts": start_us, "dur": dur_us, **more}


class Clocks:
    """The host's time of everything, and the same on a profiler's clock that is elsewhere and runs faster or slower."""

    def __init__(self, offset_us: float, rate: float) -> None:
        self.offset_us = offset_us
        self.rate = rate

    def theirs(self, host_us: float) -> float:
        return self.offset_us + self.rate * host_us

    def mark(self, at_us: float, early_us: float, late_us: float) -> tuple[dict[str, Any], Bracket]:
        """A mark of 1 us, and the host's clock so much before and after it."""
        there = entry(MARK, self.theirs(at_us), self.rate)
        return there, Bracket(round(1e3 * (at_us - early_us)), round(1e3 * (at_us + 1 + late_us)))


delays = st.lists(st.tuples(st.floats(0.1, 900), st.floats(0.1, 900)), min_size=1, max_size=5)


@given(st.floats(-1e12, 1e12), st.floats(-1e-5, 1e-5), delays, delays, st.floats(0, 2e6), st.floats(0, 1e5))
def test_times_are_right_within_what_is_said(
    offset_us: float, drift: float, first: Any, last: Any, at_us: float, long_us: float
) -> None:
    clocks = Clocks(offset_us, 1 + drift)
    begin = [clocks.mark(1e3 * number, *delay) for number, delay in enumerate(first)]
    end = [clocks.mark(3e6 + 1e3 * number, *delay) for number, delay in enumerate(last)]
    work = entry("work", clocks.theirs(1e4 + at_us), clocks.rate * long_us, "cpu_op")
    others = [{"ph": "M", "name": "thread_name", "ts": 0}, {"ph": "i", "name": MARK, "ts": 1}]
    plain = {"traceEvents": [*others, *(mark for mark, _ in [*begin, *end]), work]}
    trace = read_trace(plain, [bracket for _, bracket in begin], [bracket for _, bracket in end])
    (seen,) = [each for each in trace.seen if each.name == "work"]
    digits_ns = 1.0 + 2e3 * abs(offset_us) * 2**-52
    assert abs(seen.start_ns - 1e3 * (1e4 + at_us)) <= trace.error_ns + 10 * digits_ns
    assert abs(seen.end_ns - 1e3 * (1e4 + at_us + long_us)) <= trace.error_ns + 10 * digits_ns
    narrowest = [min(early + late for early, late in delay) for delay in (first, last)]
    assert trace.error_ns <= 1e3 * max(narrowest) / 2 + 10 * digits_ns


def test_the_narrowest_mark_counts() -> None:
    found = difference([(0.0, 10.0), (100.0, 110.0)], [Bracket(1000, 1500), Bracket(1098, 1114)])
    assert found == (105.0, 1001.0, 3.0)


def test_what_is_on_a_gpu_goes_by_its_stream() -> None:
    clocks = Clocks(0.0, 1.0)
    marks = [clocks.mark(0, 1, 1), clocks.mark(1000, 1, 1)]
    more = {"stream": 20, "device": 0, "correlation": 9, "bytes": 4096}
    copy = entry("Memcpy PtoP (Device -> Device)", 50, 25, "gpu_memcpy", args=more)
    call = entry("cudaMemcpyAsync", 40, 2, "cuda_runtime", args={"correlation": 9})
    # neither another label nor what the profiler shows of a mark on the GPU is a mark
    others = [entry("dwdp-lab operation 3", 500, 9), entry(MARK, 700, 1, "gpu_user_annotation")]
    brackets = [[bracket] for _, bracket in marks]
    trace = read_trace({"traceEvents": [copy, call, *others, *(mark for mark, _ in marks)]}, *brackets)
    assert trace.seen[0] == ("gpu_memcpy", copy["name"], 20, 50e3, 75e3, 9, 4096.0)
    assert trace.seen[1] == ("cuda_runtime", "cudaMemcpyAsync", 7, 40e3, 42e3, 9, 0.0)


def test_missing_marks_are_told() -> None:
    mark, bracket = Clocks(0.0, 1.0).mark(0, 1, 1)
    with pytest.raises(ValueError, match="saw 1 marks of 2"):
        read_trace({"traceEvents": [mark]}, [bracket], [bracket])
    with pytest.raises(ValueError, match="saw 0 marks of 0"):
        difference([], [])
