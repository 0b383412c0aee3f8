"""Whether programs do all of a scenario, once, and nothing that it does not have."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from dwdp_lab.program.accesses import accesses, shared, state
from dwdp_lab.program.hazard import Fault, Hazard
from dwdp_lab.program.micro_batches import micro_batches
from dwdp_lab.program.operation import ALL_REDUCES, COLLECTIVES, MESSAGES, Kind, Op, Program
from dwdp_lab.scenario.scenario import Scenario

Counted = dict[tuple[str, int, int, int | None], list[int]]
"""(kind, or `output`; step, layer, micro-batch) to the ranks that do it, each as often as it does."""


def cut_across(programs: Sequence[Program]) -> bool:
    """The group is one of `tensor`: ranks add up parts."""
    return any(op.kind in ALL_REDUCES for program in programs for op in program.ops)


def in_micro_batches(programs: Sequence[Program]) -> bool:
    """The group is one of `pipeline`: operations work on micro-batches, whoever's they are."""
    return any(op.micro is not None or op.kind in MESSAGES for program in programs for op in program.ops)


def impossible(program: Program, across: bool, micro: bool, scenario: Scenario) -> list[Hazard]:
    """A rank's operations for layers, steps, slots or micro-batches that are not there, experts without their weights,
    and what does not go together. `across`, `micro`: what the group is (`cut_across`, `in_micro_batches`)."""
    found = []
    exchanged = shared(program.ops).exchanged
    gathered = any(op.kind == "gather_weights" for op in program.ops)
    all_resident = scenario.strategy.name == "replicated" or scenario.local_experts == scenario.model.experts
    all_resident = all_resident or across or micro
    for index, op in enumerate(program.ops):
        for fault, message in (
            *_not_there(op, scenario),
            *_wrong_slot(op, scenario, all_resident, (op.step, op.layer) in exchanged),
            *_mixed(op, across, micro, gathered),
        ):
            found.append(Hazard(program.rank, index, fault, message))
    return found


Found = Iterator[tuple[Fault, str]]


def _not_there(op: Op, scenario: Scenario) -> Found:
    layers, steps = scenario.model.layers, scenario.batches.steps
    if not (0 <= op.layer < layers and 0 <= op.step < steps):
        yield "not there", f"{op}: there are {layers} layers and {steps} steps, counted from 0"
        return
    if op.kind in MESSAGES and not op.layer:
        yield "not there", f"{op}: what goes into layer 0 is on every rank"
    if op.micro is not None and not 0 <= op.micro < (count := len(micro_batches(scenario, op.step))):
        yield "not there", f"{op}: the step has {count} micro-batches, counted from 0"


def _wrong_slot(op: Op, scenario: Scenario, all_resident: bool, exchanged: bool) -> Found:
    slot, slots, view = op.slot, scenario.strategy.slots, scenario.strategy.weight_view
    if slot is None and op.kind in ("pull", "merge", "gather_weights"):
        yield "wrong slot", f"{op} names no slot to write"
    elif slot is not None and not 0 <= slot < slots:
        yield "wrong slot", f"{op} uses slot {slot}; strategy.slots = {slots}, counted from 0"
    elif slot is not None and op.kind == "experts" and exchanged:
        yield "wrong slot", f"{op} reads slot {slot}, but tokens came to the experts that the rank keeps"
    elif slot is not None and op.kind == "merge" and view != "merged":
        yield "wrong slot", f"{op} fills slot {slot}, which has no room for it: strategy.weight_view = {view!r}"
    elif slot is None and op.kind == "experts" and not (all_resident or exchanged):
        kept = f"the rank keeps {scenario.local_experts} of {scenario.model.experts} experts"
        yield "wrong slot", f"{op} reads no slot, but {kept}"


WITH_ALL_REDUCES: frozenset[Kind] = ALL_REDUCES | {"attention", "dense", "route", "experts"}


def _mixed(op: Op, across: bool, micro: bool, gathered: bool) -> Found:
    if across and (op.kind not in WITH_ALL_REDUCES or op.micro is not None or op.slot is not None):
        yield "mixed", f"{op}: ranks that add up parts have all tokens and a share of all weights, and move no others"
    elif micro and not across and op.micro is None:
        yield "mixed", f"{op} names no micro-batch, as others do: stages keep their weights and move micro-batches only"
    elif micro and not across and op.slot is not None:
        yield "mixed", f"{op} uses slot {op.slot}, but a stage keeps all experts of its layers"
    elif micro and not across and op.kind in COLLECTIVES:
        yield "mixed", f"{op} is for all ranks, but micro-batches are at one stage at a time"
    elif gathered and op.kind == "pull":
        yield "mixed", f"{op}: the rank gathers weights too, and then has no plan of what to pull"


def incomplete(program: Program, across: bool, scenario: Scenario) -> list[Hazard]:
    """Each layer of each step in which the rank has tokens (in a group that is cut across: any rank) needs its
    operations, and its output, once."""
    batches = scenario.batches
    counted = _counted([program])
    found = []
    for step in range(batches.steps):
        if any(batches.tokens(rank, step) for rank in (range(batches.ranks) if across else [program.rank])):
            for message, fault in _wrong_counts(counted, scenario, step, None, across):
                found.append(Hazard(program.rank, -1, fault, message))
    return found


def incomplete_micro_batches(programs: Sequence[Program], scenario: Scenario) -> list[Hazard]:
    """Each layer of each micro-batch needs its operations, and its output, once, on one rank."""
    counted = _counted(programs)
    found = []
    for step in range(scenario.batches.steps):
        for micro in range(len(micro_batches(scenario, step))):
            for message, fault in _wrong_counts(counted, scenario, step, micro, across=False):
                found.append(Hazard(-1, -1, fault, message))
    return found


def _counted(programs: Sequence[Program]) -> Counted:
    counted: Counted = defaultdict(list)
    for program in programs:
        others = shared(program.ops)
        for op in program.ops:
            counted[op.kind, op.step, op.layer, op.micro].append(program.rank)
            if op.kind in MESSAGES:  # brings an output, does not make it
                continue
            if state("hidden", op.step, op.layer, op.micro) in accesses(op, others, view_is_merged=False).writes:
                counted["output", op.step, op.layer, op.micro].append(program.rank)
    return counted


def _wrong_counts(
    counted: Counted, scenario: Scenario, step: int, micro: int | None, across: bool
) -> Iterator[tuple[str, Fault]]:
    tokens = f"step {step}" if micro is None else f"step {step}, micro-batch {micro}"
    for layer in range(scenario.model.layers):
        kinds = ["attention", "route", "experts"] if scenario.model.has_experts(layer) else ["attention", "dense"]
        if across:
            kinds += sorted(ALL_REDUCES)
        for kind in (*kinds, "output"):
            ranks = counted.get((kind, step, layer, micro), [])
            if not ranks:
                yield f"{kind} of layer {layer}, {tokens} is missing", "missing"
            elif len(ranks) > 1:
                where = f" (on ranks {', '.join(map(str, ranks))})" if len(set(ranks)) > 1 else ""
                yield f"{kind} of layer {layer}, {tokens} is there {len(ranks)} times{where}", "twice"
