"""What surely comes before what in a program: lanes in issue order, events between them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from dwdp_lab.program.checker import Hazard
from dwdp_lab.program.operation import Op


def predecessors(ops: Sequence[Op]) -> list[list[tuple[int, str]]]:
    """Per operation, what it waits for: (index, event), where the event is empty for the lane's order.

    A wait that nothing signals is left out, as a GPU would pass it.
    """
    last_signal: dict[str, int] = {}
    last_on_lane: dict[str, int] = {}
    result: list[list[tuple[int, str]]] = []
    for index, op in enumerate(ops):
        needs = [(last_signal[name], name) for name in op.waits if name in last_signal]
        if op.lane in last_on_lane:
            needs.append((last_on_lane[op.lane], ""))
        result.append(needs)
        last_on_lane[op.lane] = index
        if op.signals is not None:
            last_signal[op.signals] = index
    return result


def why_before(ops: Sequence[Op], first: int, then: int) -> list[str] | None:
    """The chain that makes `first` end before `then` starts, step by step in words; None when nothing does."""
    before = predecessors(ops)
    reached: dict[int, tuple[int, str]] = {}
    queue = deque([then])
    while queue:
        index = queue.popleft()
        for source, event in before[index]:
            if source not in reached:
                reached[source] = (index, event)
                queue.append(source)
    if first not in reached:
        return None
    words, index = [], first
    while index != then:
        index, event = reached[index]
        words.append(f"the {ops[index]} waits for {event!r}" if event else f"the {ops[index]} is next on its lane")
    return words


def conflict(ops: Sequence[Op], hazard: Hazard) -> tuple[int, int] | None:
    """The two operations of a race: (issued first, issued later). None when the hazard is no race of two on a slot."""
    if hazard.op < 0 or hazard.fault not in ("early read", "overwrite"):
        return None
    slot = ops[hazard.op].slot
    if slot is None:
        return None
    candidates = [i for i in range(hazard.op) if ops[i].slot == slot and why_before(ops, i, hazard.op) is None]
    return (candidates[-1], hazard.op) if candidates else None


def bad_timing(ops: Sequence[Op], first: int, later: int) -> list[tuple[float, float]]:
    """(start, end) of each operation in a timing that the program allows and in which `first` and `later` meet.

    All take one unit of time and run as early as they may, but `first` takes six, and `later`, which nothing makes
    wait for it, is held up until `first` runs.
    """
    times: list[tuple[float, float]] = []
    for index, needs in enumerate(predecessors(ops)):
        start = max((times[source][1] for source, _ in needs), default=0.0)
        if index == later:
            start = max(start, times[first][0] + 2.0)
        times.append((start, start + (6.0 if index == first else 1.0)))
    return times
