"""The exercise on what each weight view costs in bytes: room for staging, and traffic within the rank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dwdp_lab.program.memory import ledger
from dwdp_lab.program.work import WorkModel
from dwdp_lab.scenario.model_config import read_model
from dwdp_lab.scenario.model_shape import ModelShape
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.teach import split_weights_answers as answers
from dwdp_lab.teach.attempt import attempt, shown
from dwdp_lab.teach.exercise import Exercise, Property
from dwdp_lab.teach.shown import Shown, table

VIEWS = ("merged", "split", "composite")
CASES = (("tiny", 2), ("tiny", 4), ("tiny", 8), ("qwen3-30b-a3b", 3), ("deepseek-r1", 4))
"""(model, ranks), from the smallest up"""


def _scenario(model: str, ranks: int, view: str) -> Scenario:
    return Scenario.create(model=model, group={"ranks": ranks}, strategy={"weight_view": view, "slots": 1})


def right(model: str, ranks: int, view: str) -> tuple[float, float]:
    """As the lab's own ledger and simulator count."""
    scenario = _scenario(model, ranks, view)
    moved = sum(work.hbm_bytes for work in WorkModel(scenario).merge()) if view == "merged" else 0.0
    return ledger(scenario, "dwdp").staging, moved


def _arguments(model: str, ranks: int, view: str) -> tuple[ModelShape, int, str]:
    return read_model(model), _scenario(model, ranks, view).local_experts, view


def _part(name: str, views: Sequence[str], part: int, what: str, why: str) -> Property:
    def violation(answer: Any) -> str | None:
        for model, ranks in CASES:
            for view in views:
                shape, local, _ = arguments = _arguments(model, ranks, view)
                where = f"view_costs({shape.name}, {local}, {view!r})"
                called, wanted = attempt(answer, arguments), right(model, ranks, view)[part]
                if called.error:
                    return f"{where} {called.error}"
                try:
                    got = float(called.value[part])
                except (TypeError, ValueError, LookupError):
                    return f"{where} gives {shown(called.value)}; a pair (slot_bytes, moved_bytes) is wanted."
                if not abs(got - wanted) <= 0.5:
                    size = f" with E = {shape.experts} and {shape.expert_bytes:,} bytes per expert"
                    return f"{where}{size}: {got:,.0f} {what}, but it is {wanted:,.0f}. {why}"
        return None

    return Property(name, violation)


def _show(answer: Any) -> Shown:
    rows = []
    for view in VIEWS:
        called = attempt(answer, _arguments("qwen3-30b-a3b", 4, view))
        try:
            slot, moved = (float(part) for part in called.value)
        except (TypeError, ValueError):
            rows.append((view, str(called), "", ""))
            continue
        rows.append((view, f"{slot / 1e6:,.1f}", f"{moved / 1e6:,.1f}", f"{48 * moved / 1e9:,.1f}"))
    header = ("Qwen3-30B-A3B, L = 32", "slot, MB", "moved per layer, MB", "per step of 48 layers, GB")
    return Shown("by your count\n" + table(header, rows))


VIEW_COSTS = Exercise(
    key="split_weights.view_costs",
    number="6.1",
    title="what does a view cost?",
    difficulty=1,
    minutes=5,
    name="view_costs",
    spec="""\
Write `view_costs(shape, local, view)`: the bytes of one staging slot, and the bytes that the rank itself reads and
writes in each layer to make the view, beside the pull. `view` is `"merged"`, `"split"` or `"composite"`; the rank
keeps `local` of `shape.experts` experts of `shape.expert_bytes` each. A merge copies the local experts to their
places among the pulled ones. Leave the bytes on page edges aside; the next exercise is about those.""",
    stub='''\
def view_costs(shape: ModelShape, local: int, view: str) -> tuple[float, float]:
    """(bytes of one slot, bytes read and written per layer)."""''',
    hints=(
        "What must a slot have room for? In two of the views only for what is pulled.",
        "A merged slot has room for all E experts, the others for E - L. Only a merge moves anything.",
        "A copy reads each byte and writes it: a merge moves 2 L expert_bytes.",
    ),
    reference=answers.view_costs,
    view=_show,
    example=lambda: _arguments("tiny", 2, "split"),
    properties=(
        _part(
            "split and composite: room for what is pulled",
            ("split", "composite"),
            0,
            "bytes of a slot",
            "Local experts stay where they are.",
        ),
        _part("merged: room for all experts", ("merged",), 0, "bytes of a slot", "Local ones are copied in as well."),
        _part("only a merge moves bytes", ("split", "composite"), 1, "bytes moved", "Nothing is copied but the pull."),
        _part("a copy reads and writes", ("merged",), 1, "bytes moved", "L experts are read, and written."),
    ),
)
