"""What a DWDP schedule must have, tried on small models first, and what it then does on a large one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from dwdp_lab.program.checker import Fault, Hazard, check
from dwdp_lab.program.operation import COLLECTIVES, Op, Program
from dwdp_lab.program.rank_view import RankView, StrategyFunction
from dwdp_lab.program.work import WorkModel
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.run import run_sim
from dwdp_lab.teach.agrees import whole
from dwdp_lab.teach.attempt import raised, shown
from dwdp_lab.teach.exercise import Property, Target
from dwdp_lab.teach.happens_before import conflict
from dwdp_lab.teach.race_picture import race_picture
from dwdp_lab.teach.shown import Shown
from dwdp_lab.teach.watched import written_out
from dwdp_lab.timeline.metrics import metrics
from dwdp_lab.view.picture import timeline_picture

MOST_OPS = 100_000
"""Far more than any schedule here has."""


def small(layers: int, steps: int, slots: int) -> Scenario:
    """Two equal ranks and a tiny model with experts in every layer."""
    return Scenario.create(
        model={"preset": "tiny", "layers": layers},
        group={"ranks": 2},
        strategy={"slots": slots},
        workload={"kind": "cv", "cv": 0.0, "steps": steps, "tokens_per_rank": 64},
    )


def large(steps: int, slots: int) -> Scenario:
    """Seven layers of Qwen3-30B-A3B on two H100s, with just too little to compute to hide every copy at once."""
    return Scenario.create(
        model={"preset": "qwen3-30b-a3b", "layers": 7},
        group={"ranks": 2},
        strategy={"slots": slots},
        workload={"kind": "cv", "cv": 0.0, "steps": steps, "tokens_per_rank": 12288, "isl_tokens": 4096},
        hardware="h100",
    )


def operations(answer: Any, scenario: Scenario) -> tuple[Op, ...] | str:
    """Rank 0's operations, or why there are none."""
    if not callable(answer):
        return f"{shown(answer)} is not a function."
    try:
        made = answer(RankView(0, scenario, WorkModel(scenario)))
        given = [] if made is None else written_out(iter(made), MOST_OPS)
    except Exception as error:
        return f"it {raised(error, answer)}."
    wrong = next((each for each in given if not isinstance(each, Op)), None)
    if wrong is not None:
        return f"it gives {shown(wrong)}, which is not an operation: yield what rank.pull, rank.experts, ... return."
    text = next((each for each in given if isinstance(each.waits, str)), None)
    if text is not None:
        name = text.waits
        return f"the {text} waits for the text {name!r}; `waits` is a tuple of names, ({name!r},) with its comma."
    if malformed := next(filter(None, map(_malformed, given)), None):
        return malformed
    return tuple(given) if given else "it gives no operations yet."


def _malformed(op: Any) -> str | None:
    """What of an operation is of a form that neither the checker nor a machine can read: a learner may write any."""
    if not isinstance(op.waits, tuple) or not all(isinstance(name, str) for name in op.waits):
        return f"an operation {op.kind!r} has waits={op.waits!r}; `waits` is a tuple of names, as in ('pulled',)."
    if op.signals is not None and not isinstance(op.signals, str):
        return f"an operation {op.kind!r} has signals={op.signals!r}; `signals` is one name or None."
    for field, value in (("step", op.step), ("layer", op.layer), ("slot", op.slot)):
        if whole(value) is None and not (field == "slot" and value is None):
            return f"an operation {op.kind!r} has {field}={value!r}; `{field}` is an int."
    return None


def small_scenarios(steps: int, slots: Iterable[int]) -> list[Scenario]:
    """From the smallest up: a race that is in any of these is shown on the first."""
    return [small(layers, count, slot) for count in range(1, steps + 1) for layers in range(1, 6) for slot in slots]


def schedule_properties(steps: int, slots: tuple[int, ...]) -> tuple[Property, ...]:
    """The properties of a schedule that has to work for up to so many steps and for these numbers of slots."""
    scenarios = small_scenarios(steps, slots)

    def on_each(test: Callable[[tuple[Op, ...], Scenario], str | None]) -> Callable[[Any], str | None]:
        def violation(answer: Any) -> str | None:
            for scenario in scenarios:
                ops = operations(answer, scenario)
                found = ops if isinstance(ops, str) else test(ops, scenario)
                if found:
                    return f"{_case(scenario)}: {found}"
            return None

        return violation

    def without(*faults: Fault) -> Callable[[Any], str | None]:
        def test(ops: tuple[Op, ...], scenario: Scenario) -> str | None:
            return next((h.message for h in _hazards(ops, scenario) if h.fault in faults), None)

        return on_each(test)

    return (
        Property("it gives operations", on_each(_anything)),
        Property("every layer is computed once", without("missing", "twice")),
        Property("experts read pulled weights", on_each(_reads_pulled)),
        Property("no more slots than there are", on_each(_slots_there)),
        Property("events are signalled before they are waited for", without("unsignalled wait")),
        Property("read after write", without("early read", "stale read")),
        Property("write after read", without("overwrite")),
    )


def _hazards(ops: tuple[Op, ...], scenario: Scenario) -> list[Hazard]:
    """What the checker finds. The ranks are equal here, so rank 0's program does for all."""
    found = check([Program(rank, ops) for rank in range(scenario.ranks)], scenario)
    return [hazard for hazard in found if hazard.rank <= 0]


def _case(scenario: Scenario) -> str:
    layers, steps, slots = scenario.model.layers, scenario.batches.steps, scenario.strategy.slots
    return ", ".join(
        f"{count} {what}{'s' * (count > 1)}" for count, what in ((layers, "layer"), (steps, "step"), (slots, "slot"))
    )


def _anything(ops: tuple[Op, ...], scenario: Scenario) -> str | None:
    """`operations` has already said what was wrong."""
    del ops, scenario
    return None


def _reads_pulled(ops: tuple[Op, ...], scenario: Scenario) -> str | None:
    for op in ops:
        if op.kind in COLLECTIVES:
            return f"{op} is a meeting of all ranks, and DWDP has none: pull instead."
        if op.kind == "experts" and op.slot is None:
            local, experts = scenario.local_experts, scenario.model.experts
            return f"the {op} read no slot, but this rank keeps only {local} of the {experts} experts: pull the others."
    return None


def _slots_there(ops: tuple[Op, ...], scenario: Scenario) -> str | None:
    slots = scenario.strategy.slots
    wrong = next((op for op in ops if op.slot is not None and not 0 <= op.slot < slots), None)
    return f"the {wrong} uses slot {wrong.slot}; there are slots 0 to {slots - 1}." if wrong else None


def exposed_copy_ms(answer: StrategyFunction, steps: int, slots: int) -> float:
    """Milliseconds per step in which a rank stands still because weights are late, on the large scenario."""
    return metrics(run_sim(large(steps, slots), answer)).exposed_copy_ms


def hidden_target(reference: StrategyFunction, steps: int, slots: int) -> Target:
    """The exposed copy of a schedule should be no more than the reference's, but for 5 %."""
    return Target(
        "exposed copy per step",
        lambda answer: exposed_copy_ms(answer, steps, slots),
        lambda: 1.05 * exposed_copy_ms(reference, steps, slots) + 0.005,
        "ms",
    )


def show_schedule(steps: int, slots: int) -> Callable[[Any], Shown]:
    """The view of an exercise: the learner's races in words and the first as a picture; without any, the run."""

    def view(answer: Any) -> Shown:
        scenario = small(4, steps, slots)
        ops = operations(answer, scenario)
        if isinstance(ops, str):
            return Shown(f"{_case(scenario)}: {ops}")
        hazards = _hazards(ops, scenario)
        if hazards:
            many = len(hazards)
            words = f"{_case(scenario)}: the checker finds {many} thing{'s' * (many > 1)} that can go wrong.\n"
            words += "\n".join(f"- {hazard.message}" for hazard in hazards[:5])
            words += f"\n- and {many - 5} more" if many > 5 else ""
            for hazard in hazards:
                if pair := conflict(ops, hazard):
                    return Shown(words, race_picture(ops, *pair, title=hazard.message))
            return Shown(words)
        if unpulled := _reads_pulled(ops, scenario) or _slots_there(ops, scenario):
            return Shown(f"{_case(scenario)}: no race, but {unpulled}")
        run = run_sim(large(steps, slots), answer)
        words = f"No race. {metrics(run).exposed_copy_ms:.2f} ms of exposed copy per step."
        return Shown(words, timeline_picture(run, title="Your schedule: 7 layers of Qwen3-30B-A3B on two H100s"))

    return view
