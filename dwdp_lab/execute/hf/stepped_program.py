"""A program whose compute lane is a model of transformers: the model's own calls take it forward.

Between two layers' experts the model does what the program calls attention, route and dense. So when it asks for the
experts of layer l, the program's operations up to those experts are gone through: each waits for what it waits for and
signals what it signals, and those that are the rank's are done. What comes after the last experts is gone through when
the model's pass has ended. The copy lane runs in a thread, as on every CPU rank.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from dwdp_lab.execute.cpu.lanes import LaneRun, Times
from dwdp_lab.program.operation import Kind, Op

BY_THE_MODEL: frozenset[Kind] = frozenset({"attention", "dense", "route"})
"""Done by the model's own code before it asks for experts."""
BY_THE_RANK: frozenset[Kind] = frozenset({"pull", "merge", "experts"})


class SteppedProgram:
    """One pass of a model through one program, begun when this is made. `perform` does what is the rank's to do."""

    def __init__(self, ops: tuple[Op, ...], perform: Callable[[Op], None]) -> None:
        self.ops = ops
        turns, self._after = compute_turns(ops)
        self._turns = iter(turns)
        self._run = LaneRun(ops, lambda op: None if op.kind in BY_THE_MODEL else perform(op))
        self._before_ns = time.monotonic_ns()
        self._run.start(0, ["copy"])

    def experts(self, layer: int) -> None:
        """The model wants this layer's experts. Returns when they have been computed, by `perform`.

        Raises RuntimeError when they are not next in the program, and what `perform` raises in either lane.
        """
        called_ns = time.monotonic_ns()
        turn = next(self._turns, None)
        if turn is None or self.ops[turn[-1]].layer != layer:
            due = f"those of layer {self.ops[turn[-1]].layer} are" if turn else "nothing is"
            raise RuntimeError(f"the model asks for the experts of layer {layer}, while {due} next in its program")
        self._go_through(turn, called_ns)
        self._before_ns = self._run.times[turn[-1]].end_ns

    def _go_through(self, indices: Iterable[int], called_ns: int) -> None:
        for index in indices:
            if not self._run.operation(index):
                self._run.wait()  # raises what went wrong in the copy lane
            if self.ops[index].kind in BY_THE_MODEL:  # all that the model did since, told as the first of them
                self._run.times[index] = Times(self._before_ns, called_ns)
                self._before_ns = called_ns

    def end(self) -> list[Times]:
        """Each operation's times, when the model's pass has ended and the copy lane too.

        Raises RuntimeError when the model left out a layer, and what went wrong in the copy lane.
        """
        if (left := next(self._turns, None)) is not None:
            raise RuntimeError(f"the model ended its pass without asking for the {self.ops[left[-1]]}")
        self._go_through(self._after, time.monotonic_ns())
        return self._run.wait()


class Turns(NamedTuple):
    """The compute lane's operations by their indices: those up to each layer's experts, and those after the last."""

    turns: list[list[int]]
    after: list[int]


def compute_turns(ops: Sequence[Op]) -> Turns:
    """The compute lane, cut after each layer's experts.

    Raises ValueError for a program in which the rank has something to do after the last.
    """
    found: list[list[int]] = []
    turn: list[int] = []
    for index, op in enumerate(ops):
        if op.lane == "compute":
            turn.append(index)
            if op.kind == "experts":
                found.append(turn)
                turn = []
    check_after(ops[index] for index in turn)
    return Turns(found, turn)


def check_after(ops: Iterable[Op]) -> None:
    """Raises ValueError unless all that is computed after the last experts is the model's."""
    if (left := next((op for op in ops if op.lane == "compute" and op.kind not in BY_THE_MODEL), None)) is not None:
        raise ValueError(f"the {left} comes after the last experts: the model would never get there")
