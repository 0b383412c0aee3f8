"""The routed experts of a model on a GPU rank: a program queued on streams, taken forward by the model's own calls.

As in stepped_program.py, what the program calls attention, route and dense is the model's. Here nothing waits on the
host: when the model asks for experts, the program's operations up to them are queued, with CUDA events between lanes,
and so are the pulls that come right after. The model runs on the compute lane's stream.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from dwdp_lab.execute.cpu.operations import slot_of
from dwdp_lab.execute.cuda.experts.run_experts import RunExperts
from dwdp_lab.execute.cuda.gpu.device import Device, Event, Stream
from dwdp_lab.execute.cuda.queue_program import Events, Stamps
from dwdp_lab.execute.hf.stepped_program import BY_THE_MODEL, check_after
from dwdp_lab.model.hf.expert_source import Compute, ExpertWeights, Tables
from dwdp_lab.program.operation import Lane, Op

Work = tuple[Compute, list[Tensor]]
"""What is to be computed of a layer's experts, and where the result goes."""


class GpuPass(NamedTuple):
    """One pass of the model: its operations' events, and the bytes pulled by layer."""

    stamps: tuple[Stamps, ...]
    pulled_bytes: dict[int, int]


class GpuExperts:
    """Brings the experts of every layer to a model. `experts` outlive it; end with the device idle."""

    def __init__(
        self, device: Device, streams: Mapping[Lane, Stream], ops: tuple[Op, ...], experts: RunExperts
    ) -> None:
        self.device = device
        self.streams = streams
        self.ops = ops
        self.experts = experts
        self.passes: list[GpuPass] = []
        self._first, self._later, self._after = queue_turns(ops)
        self._weights: dict[tuple[int, int | None], ExpertWeights] = {}
        self._chosen: dict[int, Tensor] = {}
        self._pulled_bytes: dict[int, int] = {}

    def begin(self) -> None:
        self._chosen, self._pulled_bytes = {}, {}
        self._events = Events(self.device, self.ops, recorded=True)
        self._turns: Iterator[list[int]] = iter(self._later)
        # slots are free when the pass before has read them
        self._before = self._mark()
        self.streams["copy"].wait(self._before)
        for index in self._first:
            self._queue(index, None)

    def end(self) -> None:
        if (left := next(self._turns, None)) is not None:
            raise RuntimeError(f"the model ended its pass without asking for the {self._experts_of(left)}")
        self._go_through(self._after, None)
        events = self._events
        stamps = tuple(Stamps(start, events.ends[index]) for index, start in enumerate(events.starts))
        self.passes.append(GpuPass(stamps, self._pulled_bytes))

    def run(self, layer: int, ids: Tensor, compute: Compute) -> Tensor:
        turn = next(self._turns, None)
        if turn is None or self._experts_of(turn).layer != layer:
            due = f"{self._experts_of(turn)} is" if turn else "nothing is"
            raise RuntimeError(f"the model asks for the experts of layer {layer}, while {due} next in its program")
        self._chosen[layer] = ids
        computed: list[Tensor] = []
        self._go_through(turn, (compute, computed))
        if not computed:  # a stream that is not at once where it is asked to be: the stand-in for tests
            self.device.wait(self._before)
        return computed[0]

    def _go_through(self, turn: Sequence[int], work: Work | None) -> None:
        called = self._mark()
        for index in turn:
            op = self.ops[index]
            if op.kind in BY_THE_MODEL:  # all that the model did since, told as the first of them
                self._events.starts[index] = self._before
                self._before = called
            self._queue(index, work)
            if op.kind == "experts":
                self._before = self._events.ends[index]

    def _queue(self, index: int, work: Work | None) -> None:
        op, events = self.ops[index], self._events
        stream = self.streams[op.lane]
        for number in events.waits[index]:
            if self.ops[number].lane != op.lane:
                stream.wait(events.ends[number])
        if op.kind not in BY_THE_MODEL:
            stream.record(events.starts[index])
        if op.kind == "pull":
            self._pull(op, stream)
        elif op.kind == "merge":
            stream.run(lambda: self.experts.merge(op.layer, slot_of(op)))
        elif op.kind == "experts" and work is not None:
            compute, computed = work
            weights = self._weights_of(op)
            stream.run(lambda: computed.append(compute(weights)))
        stream.record(events.ends[index])

    def _pull(self, op: Op, stream: Stream) -> None:
        copies = self.experts.copies(op.layer, slot_of(op))
        if op.pull is not None and op.pull.routed:  # the host waits for what the router chose
            wanted = set(self._chosen[op.layer].flatten().tolist())
            copies = self.experts.copies_for(op.layer, slot_of(op), wanted)
        self._pulled_bytes[op.layer] = sum(copy.nbytes for copy in copies)
        if copies:
            stream.copy(copies)

    def _weights_of(self, op: Op) -> ExpertWeights:
        key = op.layer, op.slot
        if key not in self._weights:
            w13, w2 = self.experts.tables(op.layer, op.slot)
            self._weights[key] = ExpertWeights(w13.weights, w2.weights, Tables(w13, w2))
        return self._weights[key]

    def _mark(self) -> Event:
        event = self.device.event(timed=True)
        self.streams["compute"].record(event)
        return event

    def _experts_of(self, turn: Sequence[int]) -> Op:
        return next(self.ops[index] for index in turn if self.ops[index].kind == "experts")


class QueueTurns(NamedTuple):
    """A program's operations by their indices, in issue order.

    `first` are those before anything is computed, `turns`, for each layer with experts, all up to them and what other
    lanes do before computing goes on, `after` those from the first dense layer after the last experts on.
    """

    first: list[int]
    turns: list[list[int]]
    after: list[int]


def queue_turns(ops: Sequence[Op]) -> QueueTurns:
    """The program cut where the model asks for experts.

    Raises ValueError for one in which the rank has something to compute after the last.
    """
    found: list[list[int]] = [[]]
    open_turn = False
    for index, op in enumerate(ops):
        if op.lane == "compute" and not open_turn:
            found.append([])
            open_turn = True
        found[-1].append(index)
        if op.kind == "experts":
            open_turn = False
    after = found.pop() if open_turn else []
    check_after(ops[index] for index in after)
    return QueueTurns(found[0], found[1:], after)
