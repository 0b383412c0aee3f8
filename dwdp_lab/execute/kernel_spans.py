"""Which operation launched each kernel that a profiler saw, and on which lane it ran.

The host queues (or, on a CPU, performs) every operation within a labelled range of its thread. On a CPU what ran within
that range belongs to the operation. A GPU's kernel carries the number of the call that launched it, and that call lies
in the range; where the profiler has not seen the call, the kernel's stream still tells the lane, and its time what was
going on there.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dwdp_lab.execute.kineto import LAUNCHES, ON_CPU, ON_GPU, RANGE, Seen
from dwdp_lab.program.operation import Op
from dwdp_lab.timeline.profiled import KernelSpan
from dwdp_lab.timeline.span import Span

OPERATION = "dwdp-lab operation "
"""And the operation's number."""
LANE = "dwdp-lab lane "
"""And the lane: its stream is to be known even if none of its work is attributed."""

Where = int | str


class Found(NamedTuple):
    """A kernel, and the number of its operation; None where that is not known."""

    span: KernelSpan
    number: int | None


class _Labels:
    """Labelled ranges by thread, or of `any_thread`: one thread queues for a GPU, but the profiler may number it in two
    ways. Those of one thread follow each other."""

    def __init__(self, seen: Iterable[Seen], any_thread: bool) -> None:
        self._any = any_thread
        self._ranges: dict[Where, list[Seen]] = defaultdict(list)
        for each in sorted(seen, key=lambda one: one.start_ns):
            if each.category == RANGE and each.name.startswith((OPERATION, LANE)):
                self._ranges[0 if any_thread else each.where].append(each)
        self._starts = {where: [each.start_ns for each in ranges] for where, ranges in self._ranges.items()}

    def around(self, seen: Seen) -> str | None:
        """The label of the range that the middle of this lies in: edges may be off by the difference of clocks."""
        where, at_ns = 0 if self._any else seen.where, (seen.start_ns + seen.end_ns) / 2
        place = bisect_right(self._starts.get(where, []), at_ns) - 1
        if place < 0 or at_ns > self._ranges[where][place].end_ns:
            return None
        return self._ranges[where][place].name


def kernels_of(
    rank: int, ops: Sequence[Op], seen: Sequence[Seen], gpu: bool, zero_ns: int, since_ns: int
) -> list[Found]:
    """What ran on the GPU, or within labels on the CPU, from `since_ns` on; in order of its start."""
    on_gpu = [each for each in seen if each.category in ON_GPU]
    labels = _Labels(seen, any_thread=gpu)
    if not gpu:
        within = ((each, labels.around(each)) for each in seen if each.category == ON_CPU)
        labelled = [(each, label) for each, label in within if label is not None]
        lanes: dict[Where, str] = {}
    else:
        calls = {each.correlation: each for each in seen if each.category in LAUNCHES and each.correlation is not None}
        labelled = []
        for each in on_gpu:
            call = None if each.correlation is None else calls.get(each.correlation)
            labelled.append((each, "" if call is None else labels.around(call) or ""))
        lanes = _lanes(ops, labelled)
    found = []
    for each, label in sorted(labelled, key=lambda pair: pair[0].start_ns):
        number = _number(label)
        if each.start_ns >= since_ns and not label.startswith(LANE):
            op = None if number is None else ops[number]
            lane = lanes.get(each.where) or (f"stream {each.where}" if gpu or op is None else op.lane)
            found.append(Found(_span(rank, each, lane, op, zero_ns), number))
    return found


def _lanes(ops: Sequence[Op], labelled: Iterable[tuple[Seen, str]]) -> dict[Where, str]:
    """The lane of each stream that any lane's work was launched on: what most of it says. NCCL may run a lane's
    collectives on streams of its own; these go by their lane too."""
    votes: dict[Where, Counter[str]] = defaultdict(Counter)
    for each, label in labelled:
        if label.startswith(LANE):
            votes[each.where][label.removeprefix(LANE)] += 1
        elif (number := _number(label)) is not None:
            votes[each.where][ops[number].lane] += 1
    return {where: counts.most_common(1)[0][0] for where, counts in votes.items()}


def _number(label: str) -> int | None:
    return int(label.removeprefix(OPERATION)) if label.startswith(OPERATION) else None


def _span(rank: int, seen: Seen, lane: str, op: Op | None, zero_ns: int) -> KernelSpan:
    start, end = (seen.start_ns - zero_ns) / 1e3, (seen.end_ns - zero_ns) / 1e3
    return KernelSpan(rank, lane, seen.name, start, end, seen.nbytes, "" if op is None else f"{op.kind} L{op.layer}")


def named_by_time(kernels: Iterable[Found], spans: Sequence[Span]) -> list[Found]:
    """Kernels of no known operation get the name of what their lane was doing at their middle."""
    named = []
    for kernel, number in kernels:
        middle = (kernel.start_us + kernel.end_us) / 2
        around = (one for one in spans if one.lane == kernel.lane and one.start_us <= middle <= one.end_us)
        if number is None and (one := next(around, None)) is not None:
            kernel = kernel._replace(of=f"{one.kind} L{one.layer}")
        named.append(Found(kernel, number))
    return named


def outside_us(kernels: Iterable[Found], spans: Sequence[Span]) -> float:
    """The furthest that any kernel lies outside the span of its operation; `spans` are in the operations' order."""
    furthest = 0.0
    for kernel, number in kernels:
        if number is not None:
            furthest = max(furthest, spans[number].start_us - kernel.start_us, kernel.end_us - spans[number].end_us)
    return furthest
