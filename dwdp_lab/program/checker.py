"""The checker: proves programs free of races before anything runs them, or names what is wrong.

Operations of one lane run in issue order; events order lanes. A vector clock per operation (one counter per lane)
says what has surely ended before it starts. On that order every buffer is followed: a read must find the version it
asks for, written surely before; a write must come surely after all reads and writes of what it replaces.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from dwdp_lab.program.accesses import Access, Accesses, accesses, state
from dwdp_lab.program.operation import COLLECTIVES, LANES, Op, Program, lane_of
from dwdp_lab.scenario.scenario import Scenario

Fault = Literal[
    "unsignalled wait",
    "stale read",
    "early read",
    "overwrite",
    "missing",
    "twice",
    "mismatch",
    "wrong lane",
    "wrong slot",
    "not there",
]


class Hazard(NamedTuple):
    """Something that can go wrong. `op` is the index in the rank's program where it shows (-1: none)."""

    rank: int
    op: int
    fault: Fault
    message: str

    def __str__(self) -> str:
        return f"rank {self.rank}: {self.message}"


class ProgramError(ValueError):
    """A program that must not run; `hazards` says why."""

    def __init__(self, hazards: Sequence[Hazard]) -> None:
        self.hazards = tuple(hazards)
        more = f" (and {len(hazards) - 1} more)" if len(hazards) > 1 else ""
        super().__init__(f"{hazards[0]}{more}")


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
    exchanged = {(op.step, op.layer) for op in program.ops if op.kind in ("dispatch", "gather_tokens")}
    return [accesses(op, (op.step, op.layer) in exchanged, view_is_merged) for op in program.ops]


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
        lane = LANES.index(op.lane)
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
                    report("overwrite", f"{op} may overwrite {name!r} while the {reader.op} reads it")
            if buffer.written is not None and not surely_before(buffer.written):
                report("overwrite", f"{op} may write {name!r} together with the {buffer.written.op}")
            buffers[name] = _Buffer(_Mark(op, lane, tick, contents))
    return found


def check(programs: Sequence[Program], scenario: Scenario | None = None) -> list[Hazard]:
    """All hazards of a group's programs: each rank's own, collectives that do not match, and, with the scenario,
    ranks or layers that are missing, layers computed twice, experts without weights, and what is not there at all. An
    empty list is the proof that none of these can happen."""
    merged = scenario is not None and scenario.strategy.weight_view == "merged"
    found = [hazard for program in programs for hazard in check_program(program, merged)]
    found += _mismatched(programs)
    if scenario is not None:
        if (ranks := [program.rank for program in programs]) != list(range(scenario.ranks)):
            found.append(Hazard(-1, -1, "missing", f"programs of ranks {ranks} for a group of {scenario.ranks}"))
        for program in programs:
            found += _impossible(program, scenario)
            found += _incomplete(program, scenario)
    return found


def verify(programs: Sequence[Program], scenario: Scenario | None = None) -> None:
    """Raise ProgramError unless the programs are clean."""
    if hazards := check(programs, scenario):
        raise ProgramError(hazards)


def _mismatched(programs: Sequence[Program]) -> list[Hazard]:
    """Every rank must issue the same collectives in the same order, else the group waits for ever."""

    def meetings(program: Program) -> list[tuple[str, int, int]]:
        return [(op.kind, op.step, op.layer) for op in program.ops if op.kind in COLLECTIVES]

    if not programs:
        return []
    first = meetings(programs[0])
    found = []
    for program in programs[1:]:
        mine = meetings(program)
        if mine != first:
            place = next(
                (i for i, pair in enumerate(zip(first, mine, strict=False)) if pair[0] != pair[1]),
                min(len(first), len(mine)),
            )
            theirs = first[place] if place < len(first) else "nothing more"
            own = mine[place] if place < len(mine) else "nothing more"
            found.append(
                Hazard(
                    program.rank,
                    -1,
                    "mismatch",
                    f"collective {place} is {own}, on rank {programs[0].rank} it is {theirs}: both would wait for ever",
                )
            )
    return found


def _impossible(program: Program, scenario: Scenario) -> list[Hazard]:
    """Operations for layers, steps or slots that are not there, and experts without their weights."""
    slots, layers, steps = scenario.strategy.slots, scenario.model.layers, scenario.batches.steps
    all_resident = scenario.strategy.name == "replicated" or scenario.local_experts == scenario.model.experts
    exchanged = {(op.step, op.layer) for op in program.ops if op.kind in ("dispatch", "gather_tokens")}
    found = []
    for index, op in enumerate(program.ops):
        if not (0 <= op.layer < layers and 0 <= op.step < steps):
            there = f"there are {layers} layers and {steps} steps, counted from 0"
            found.append(Hazard(program.rank, index, "not there", f"{op}: {there}"))
        slot = op.slot
        if slot is None and op.kind in ("pull", "merge", "gather_weights"):
            found.append(Hazard(program.rank, index, "wrong slot", f"{op} names no slot to write"))
        elif slot is not None and not 0 <= slot < slots:
            said = f"strategy.slots = {slots}, counted from 0"
            found.append(Hazard(program.rank, index, "wrong slot", f"{op} uses slot {slot}; {said}"))
        elif slot is None and op.kind == "experts" and not all_resident and (op.step, op.layer) not in exchanged:
            kept = f"the rank keeps {scenario.local_experts} of {scenario.model.experts} experts"
            found.append(Hazard(program.rank, index, "wrong slot", f"{op} reads no slot, but {kept}"))
    return found


def _incomplete(program: Program, scenario: Scenario) -> list[Hazard]:
    """Each layer of each step in which the rank has tokens needs its operations, and its output, once."""
    done: dict[tuple[str, int, int], int] = defaultdict(int)
    outputs: dict[Access, int] = defaultdict(int)
    for op, touched in zip(program.ops, _accesses(program, view_is_merged=False), strict=True):
        done[op.kind, op.step, op.layer] += 1
        for access in touched.writes:
            outputs[access] += 1
    found = []
    for step in range(scenario.batches.steps):
        if not scenario.batches.tokens(program.rank, step):
            continue
        for layer in range(scenario.model.layers):
            moe = layer >= scenario.model.dense_layers
            kinds = ("attention", "route", "experts") if moe else ("attention", "dense")
            counts = {kind: done[kind, step, layer] for kind in kinds}
            counts["output"] = outputs[state("hidden", step, layer)]
            for kind, times in counts.items():
                if times != 1:
                    fault: Fault = "missing" if times == 0 else "twice"
                    word = "is missing" if times == 0 else f"is there {times} times"
                    found.append(Hazard(program.rank, -1, fault, f"{kind} of layer {layer}, step {step} {word}"))
    return found
