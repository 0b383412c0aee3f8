"""What torch.profiler saw, read from the trace that it exports and laid on the host's monotonic clock.

Which clock the profiler counts on is its own affair, and has changed between versions. So while it runs some marks are
made: empty labelled ranges, of which the host knows the moments before and after. They tell how the clocks differ, and
how far that may be wrong. Between the marks at the begin and those at the end the difference is taken to change evenly.
What happened on a GPU the profiler has brought to its clock by itself (CUPTI).

The format: "Trace Event Format", as in timeline/chrome_trace.py; the categories are Kineto's (`ActivityType`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

MARK = "dwdp-lab mark"
ON_GPU = frozenset({"kernel", "gpu_memcpy", "gpu_memset"})
LAUNCHES = frozenset({"cuda_runtime", "cuda_driver"})
ON_CPU = "cpu_op"
RANGE = "user_annotation"
"""What `torch.profiler.record_function` leaves."""


class Bracket(NamedTuple):
    """The monotonic clock before and after something happened."""

    before_ns: int
    after_ns: int


class Seen(NamedTuple):
    """One entry of the trace, in nanoseconds of the monotonic clock."""

    category: str
    name: str
    where: int | str
    """The thread it ran in, or the GPU's stream."""
    start_ns: float
    end_ns: float
    correlation: int | None
    """The same of a kernel and of the call that launched it."""
    nbytes: float


class Difference(NamedTuple):
    """What to add to the profiler's clock, as marks at about `at_ns` of it tell."""

    at_ns: float
    add_ns: float
    error_ns: float


def difference(ranges: Sequence[tuple[float, float]], brackets: Sequence[Bracket]) -> Difference:
    """From marks on the profiler's clock and the host's brackets around them, in the same order: the narrowest counts.

    Raises ValueError without marks, or when the profiler has not seen as many as were made.
    """
    if not brackets or len(ranges) != len(brackets):
        raise ValueError(f"torch.profiler saw {len(ranges)} marks of {len(brackets)}")
    tries = []
    for (start, end), (before, after) in zip(ranges, brackets, strict=True):
        least, most = before - start, after - end
        tries.append(Difference((start + end) / 2, (least + most) / 2, abs(most - least) / 2))
    return min(tries, key=lambda each: each.error_ns)


class Trace(NamedTuple):
    """All that was seen, and how far its times may be off on the monotonic clock."""

    seen: tuple[Seen, ...]
    error_ns: float


def read_trace(plain: Mapping[str, Any], first: Sequence[Bracket], last: Sequence[Bracket]) -> Trace:
    """The exported trace; `first` and `last` are the marks made at its begin and its end.

    Raises ValueError when it lacks any of them.
    """
    events = [event for event in plain["traceEvents"] if event.get("ph") == "X" and isinstance(event.get("cat"), str)]
    marks = sorted(_times(event) for event in events if event["name"] == MARK and event["cat"] == RANGE)
    if len(marks) != len(first) + len(last):
        raise ValueError(f"torch.profiler saw {len(marks)} marks of {len(first) + len(last)}")
    early, late = difference(marks[: len(first)], first), difference(marks[len(first) :], last)

    def host_ns(at_ns: float) -> float:
        share = (at_ns - early.at_ns) / (late.at_ns - early.at_ns)
        return at_ns + early.add_ns + share * (late.add_ns - early.add_ns)

    seen = [_seen(event, *(host_ns(time) for time in _times(event))) for event in events]
    return Trace(tuple(seen), max(early.error_ns, late.error_ns))


def _times(event: Mapping[str, Any]) -> tuple[float, float]:
    start = 1e3 * float(event["ts"])
    return start, start + 1e3 * float(event.get("dur", 0))


def _seen(event: Mapping[str, Any], start_ns: float, end_ns: float) -> Seen:
    more = event.get("args", {})
    where = more.get("stream", event.get("tid")) if event["cat"] in ON_GPU else event.get("tid")
    return Seen(
        category=event["cat"],
        name=str(event["name"]),
        where=where if isinstance(where, int) else str(where),
        start_ns=start_ns,
        end_ns=end_ns,
        correlation=more.get("correlation"),
        nbytes=float(more.get("bytes", 0)),
    )
