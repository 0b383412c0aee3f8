"""The checker: proves programs free of races before anything runs them, or names what is wrong.

Operations of one lane run in issue order; events order lanes. A vector clock per operation (one counter per lane)
says what has surely ended before it starts. On that order every buffer is followed: a read must find the version it
asks for, written surely before; a write must come surely after all reads and writes of what it replaces.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dwdp_lab.program.accesses import Accesses, accesses, shared
from dwdp_lab.program.completeness import (
    cut_across,
    impossible,
    in_micro_batches,
    incomplete,
    incomplete_micro_batches,
)
from dwdp_lab.program.hazard import Fault as Fault
from dwdp_lab.program.hazard import Hazard as Hazard
from dwdp_lab.program.hazard import ProgramError as ProgramError
from dwdp_lab.program.meetings import deadlocked, mismatched
from dwdp_lab.program.operation import LANES, Op, Program, lane_of
from dwdp_lab.scenario.scenario import Scenario


class _Mark(NamedTuple):
    """An access that was made: by which operation, and where on which lane."""

    op: Op
    lane: int
    tick: int
    contents: str


@dataclass
class _Buffer:
    written: _Mark | None = None
    reads: list[_Mark] = field(default_factory=list)


_Clock = list[int]


def _accesses(program: Program, view_is_merged: bool) -> list[Accesses]:
    """What each operation touches."""
    others = shared(program.ops)
    return [accesses(op, others, view_is_merged) for op in program.ops]


def check_program(program: Program, view_is_merged: bool = False) -> list[Hazard]:
    """The hazards of one rank's program taken alone."""
    clocks: list[_Clock] = [[0] * len(LANES) for _ in LANES]
    signalled: dict[str, _Clock] = {}
    buffers: dict[str, _Buffer] = defaultdict(_Buffer)
    found: list[Hazard] = []

    for index, (op, touched) in enumerate(zip(program.ops, _accesses(program, view_is_merged), strict=True)):

        def report(fault: Fault, message: str, index: int = index) -> None:
            found.append(Hazard(program.rank, index, fault, message))

        if op.lane != lane_of(op.kind):
            report("wrong lane", f"{op} is on lane {op.lane!r}; machines run it on {lane_of(op.kind)!r}")
        lane = LANES.index(op.lane if op.lane in LANES else lane_of(op.kind))
        clock = list(clocks[lane])
        for name in op.waits:
            if name in signalled:
                clock = [max(pair) for pair in zip(clock, signalled[name], strict=True)]
            else:
                report("unsignalled wait", f"{op} waits for {name!r}, which nothing issued before it signals")
        clock[lane] += 1
        clocks[lane] = clock
        if op.signals is not None:
            signalled[op.signals] = clock
        tick = clock[lane]

        def surely_before(mark: _Mark, clock: _Clock = clock) -> bool:
            return clock[mark.lane] >= mark.tick

        for name, contents in touched.reads:
            buffer = buffers[name]
            if buffer.written is None:
                report("stale read", f"{op} reads {name!r} before anything wrote it")
            elif buffer.written.contents != contents:
                report("stale read", f"{op} reads {name!r}, which by then is meant for {buffer.written.contents}")
            elif not surely_before(buffer.written):
                report("early read", f"{op} may read {name!r} before the {buffer.written.op} has ended")
            buffer.reads.append(_Mark(op, lane, tick, contents))
        for name, contents in touched.writes:
            buffer = buffers[name]
            for reader in buffer.reads:
                if not surely_before(reader):
                    report("overwrite", f"{op} may overwrite {name!r}, which the {reader.op} may still read")
            if buffer.written is not None and not surely_before(buffer.written):
                report("overwrite", f"{op} may write {name!r} together with the {buffer.written.op}")
            buffers[name] = _Buffer(_Mark(op, lane, tick, contents))
    return found


def check(programs: Sequence[Program], scenario: Scenario | None = None) -> list[Hazard]:
    """All hazards of a group's programs: each rank's own; collectives and messages that do not match, or wait for each
    other in a circle; and, with the scenario, ranks or layers that are missing, layers computed twice, experts without
    weights, and what is not there at all. An empty list is the proof that none of these can happen."""
    merged = scenario is not None and scenario.strategy.weight_view == "merged"
    found = [hazard for program in programs for hazard in check_program(program, merged)]
    meeting = mismatched(programs)
    found += meeting or deadlocked(programs)
    if scenario is not None:
        if (ranks := [program.rank for program in programs]) != list(range(scenario.ranks)):
            found.append(Hazard(-1, -1, "missing", f"programs of ranks {ranks} for a group of {scenario.ranks}"))
        across, micro = cut_across(programs), in_micro_batches(programs)
        for program in programs:
            found += impossible(program, across, micro, scenario)
            found += [] if micro else incomplete(program, across, scenario)
        found += incomplete_micro_batches(programs, scenario) if micro else []
    return found


def verify(programs: Sequence[Program], scenario: Scenario | None = None) -> None:
    """Raise ProgramError unless the programs are clean."""
    if hazards := check(programs, scenario):
        raise ProgramError(hazards)
