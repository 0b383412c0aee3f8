"""A program as CUDA graphs: each step captured over all lanes, to be queued again by a single call.

A part is what is issued up to the last operation of a step. It begins by a fork, the lanes waiting for `compute`, and
ends by a join, `compute` waiting for the lanes; parts are replayed on `compute`, one after another. So a part has ended
on all lanes when the next one begins, and a wait for an operation of an earlier part (a slot's last reader, a pull made
for the next step) holds without an event. That only adds to the order which the checker has proven to be enough, and
as waits look back in issue order there can be no circle. It costs overlap at the border: pulls for the next step that
a part has begun end within it, before the next step's first attention.

For the same reason parts share memory: what one has let go of the next may overwrite. What crosses a border, such as a
step's output, is still referred to while later parts are captured, so that none of them gets its memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from dwdp_lab.execute.cuda.gpu.device import Device, Event, Graph, Stream
from dwdp_lab.execute.cuda.queue_program import Queued, Stamps
from dwdp_lab.execute.tokens import tokens_of
from dwdp_lab.program.operation import Lane, Op, awaited


class Part(NamedTuple):
    """A graph, and the step that ends with it."""

    step: int
    graph: Graph


class Captured(NamedTuple):
    """A program as graphs in the order to replay them. `stamps`: per operation; empty when nothing is recorded."""

    parts: tuple[Part, ...]
    stamps: tuple[Stamps, ...]


def parts_of(ops: Sequence[Op]) -> tuple[range, ...]:
    """The operations of each part: everything up to the last one of a step."""
    ends = sorted({op.step: index + 1 for index, op in enumerate(ops)}.values())
    return tuple(range(start, end) for start, end in zip([0, *ends], ends, strict=False))


def capture_program(
    device: Device,
    ops: Sequence[Op],
    streams: Mapping[Lane, Stream],
    queue: Callable[[Op], None],
    ended: Callable[[Op], None],
    recorded: bool,
) -> Captured:
    """All parts, captured without running anything; `queue` and `ended` as in `queue_program`.

    All kernels must have run before, because they are compiled and loaded then. Raises what these raise, with the
    operation in a note.
    """
    waits, last_of_tokens = awaited(tuple(ops)), set({tokens_of(op): index for index, op in enumerate(ops)}.values())
    stamps = [Stamps(device.event(timed=True), device.event(timed=True)) for _ in ops] if recorded else []
    parts: list[Part] = []
    for indices in parts_of(ops):
        with device.capture(streams["compute"], parts[-1].graph if parts else None) as graph:
            others = [streams[lane] for lane in sorted({ops[index].lane for index in indices} - {"compute"})]
            _order(device, [streams["compute"]], others)
            ends = {index: device.event() for index in indices}
            for index in indices:
                op, stream = ops[index], streams[ops[index].lane]
                for number in waits[index]:
                    if number in indices and ops[number].lane != op.lane:
                        stream.wait(ends[number])
                if recorded:
                    stream.record(stamps[index].start)
                try:
                    queue(op)
                except Exception as error:
                    error.add_note(f"while capturing {op}")
                    raise
                stream.record(ends[index])
                if recorded:
                    stream.record(stamps[index].end)
                if index in last_of_tokens:
                    ended(op)
            _order(device, others, [streams["compute"]])
        parts.append(Part(ops[indices[-1]].step, graph))
    return Captured(tuple(parts), tuple(stamps))


def _order(device: Device, first: Sequence[Stream], then: Sequence[Stream]) -> None:
    """What is queued on some streams comes before what will be on others."""
    for before in first:
        event = device.event()
        before.record(event)
        for after in then:
            after.wait(event)


def replay_program(device: Device, captured: Captured, stream: Stream) -> Queued:
    """Queue all parts on the stream."""
    step_ends: list[tuple[int, tuple[Event, ...]]] = []
    for step, graph in captured.parts:
        stream.replay(graph)
        end = device.event()
        stream.record(end)
        step_ends.append((step, (end,)))
    return Queued(captured.stamps, tuple(step_ends))
