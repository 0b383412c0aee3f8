"""A program on streams: its operations queued in issue order, with CUDA events for its own and for the clock.

The host does not wait for the device here. (An operation may: DEP's all-to-all has to read how many rows it moves,
unless these go once to a rank and ranks meet by copies; a pull of routed experts has to read which these are; and ranks
that share a GPU may meet through the host.)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from dwdp_lab.execute.cuda.gpu.device import Device, Event, Stream
from dwdp_lab.execute.tokens import tokens_of
from dwdp_lab.program.operation import Lane, Op, awaited


class Stamps(NamedTuple):
    """Timed events at an operation's start and end."""

    start: Event
    end: Event


class Queued(NamedTuple):
    """A program that has been queued."""

    stamps: tuple[Stamps, ...]
    """Per operation; empty when the run is not recorded."""
    step_ends: tuple[tuple[int, tuple[Event, ...]], ...]
    """Each step, and the events at its end on each lane; in the order of their last operations."""


class Events:
    """Events for one program, made before the clock runs."""

    def __init__(self, device: Device, ops: Sequence[Op], recorded: bool) -> None:
        self.waits = awaited(tuple(ops))
        last_on_lane = {(op.step, op.lane): index for index, op in enumerate(ops)}
        self.ends_of_step: dict[int, list[int]] = defaultdict(list)
        for (step, _), index in last_on_lane.items():
            self.ends_of_step[step].append(index)
        self.last_of_tokens = set({tokens_of(op): index for index, op in enumerate(ops)}.values())
        needed = {index for waits in self.waits for index in waits} | set(last_on_lane.values())
        self.starts = [device.event(timed=True) for _ in ops] if recorded else []
        self.ends = {index: device.event(timed=recorded) for index in range(len(ops)) if recorded or index in needed}


def queue_program(
    ops: Sequence[Op],
    events: Events,
    streams: Mapping[Lane, Stream],
    queue: Callable[[Op], None],
    ended: Callable[[Op], None],
) -> Queued:
    """Queue all operations; `queue` does one's own work, `ended` hears of the last one on its tokens.

    Raises what they raise, with the operation in a note.
    """
    for index, op in enumerate(ops):
        stream = streams[op.lane]
        for number in events.waits[index]:
            if ops[number].lane != op.lane:  # a stream waits for its own past anyway
                stream.wait(events.ends[number])
        if events.starts:
            stream.record(events.starts[index])
        try:
            queue(op)
        except Exception as error:
            error.add_note(f"while queueing {op}")
            raise
        if index in events.ends:
            stream.record(events.ends[index])
        if index in events.last_of_tokens:
            ended(op)
    stamps = tuple(Stamps(start, events.ends[index]) for index, start in enumerate(events.starts))
    in_order = sorted(events.ends_of_step.items(), key=lambda item: max(item[1]))
    return Queued(stamps, tuple((step, tuple(events.ends[i] for i in indices)) for step, indices in in_order))
