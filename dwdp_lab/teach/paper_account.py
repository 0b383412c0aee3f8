"""The exercise on the paper's Table 1: what is saved, what it costs, and what is left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from dwdp_lab.simulate.paper_data import paper_data
from dwdp_lab.teach import real_cost_answers as answers
from dwdp_lab.teach.agrees import is_number
from dwdp_lab.teach.attempt import attempt, call_text, shown
from dwdp_lab.teach.exercise import Exercise, Property
from dwdp_lab.teach.shown import Shown, table
from dwdp_lab.timeline.palette import BLUE, ORANGE
from dwdp_lab.view.charts.chart import Bars, Chart
from dwdp_lab.view.picture import Picture

Rows = dict[str, float]


class Case(NamedTuple):
    """Milliseconds per row under both strategies, and the rows that run beside the others."""

    dep: Rows
    dwdp: Rows
    beside: set[str]


def paper_case() -> Case:
    """Table 1 of the paper: DEP4 and DWDP4 with merged weights."""
    rows = [row for row in paper_data("table1")["rows"] if row["dep_ms"] is not None]
    dep, dwdp = ({row["row"]: row[column] for row in rows} for column in ("dep_ms", "dwdp_ms"))
    return Case(dep, dwdp, {"p2p_copy"})


SAVED = Case({"sync": 2.0, "iteration": 10.0}, {"sync": 0.0, "iteration": 8.0}, set())
DEARER = Case({"attention": 5.0, "iteration": 10.0}, {"attention": 6.0, "iteration": 11.0}, set())
BESIDE = Case({"sync": 2.0, "copy": 0.0, "iteration": 10.0}, {"sync": 0.0, "copy": 9.0, "iteration": 8.0}, {"copy"})


def _as_rows(value: Any) -> Rows | None:
    if not isinstance(value, dict) or not all(is_number(each) for each in value.values()):
        return None
    return {str(row): float(each) for row, each in value.items()}


def _on(cases: tuple[Case, ...], test: Callable[[Rows, Case], str | None]) -> Callable[[Any], str | None]:
    def violation(answer: Any) -> str | None:
        for case in (*cases, paper_case()):
            called = attempt(answer, case)
            where = call_text("savings", case) if case in cases else "the paper's Table 1"
            found = _as_rows(called.value)
            if called.error:
                return f"{where} {called.error}" if case in cases else f"{where}: {called.error}"
            if found is None:
                return f"{where}: {shown(called.value)}; a dict of row to per cent is wanted."
            if wrong := test(found, case):
                return f"{where}: {wrong}"
        return None

    return violation


def _each_right(found: Rows, case: Case) -> str | None:
    for row, wanted in answers.savings(*case).items():
        if row not in found:
            return f"the row {row!r} is missing."
        if not abs(found[row] - wanted) <= 0.005:
            share = f"{case.dep[row]:g} ms become {case.dwdp[row]:g}, of DEP's iteration of {case.dep['iteration']:g}"
            return f"{row!r} is {found[row]:z.2f}, but it is {wanted:+z.2f}: {share}."
    return None


def _only_parts(found: Rows, case: Case) -> str | None:
    extra = next((row for row in found if row in case.beside or row == "iteration"), None)
    if extra is None:
        return None
    why = (
        "is the whole, not a part of it"
        if extra == "iteration"
        else "runs beside the others and takes none of its time"
    )
    return f"{extra!r} {why}."


def _adds_up(found: Rows, case: Case) -> str | None:
    whole = 100 * (1 - case.dwdp["iteration"] / case.dep["iteration"])
    total = sum(found.values())
    return (
        None
        if abs(total - whole) < 0.02
        else f"the rows sum to {total:z.2f} %, the iteration is {whole:.2f} % shorter."
    )


def _show(answer: Any) -> Shown:
    called = attempt(answer, paper_case())
    found = _as_rows(called.value)
    if found is None:
        return Shown(f"the paper's Table 1: {called}")
    rows = [(row, f"{each:+z.2f} %") for row, each in found.items()]
    words = table(("your account of Table 1", ""), [*rows, ("sum", f"{sum(found.values()):+z.2f} %")])
    chart = Chart(
        "Table 1: saved and paid, by your account",
        "",
        "% of DEP's iteration",
        bars=(
            Bars("saved", tuple(max(each, 0.0) for each in found.values()), BLUE),
            Bars("paid", tuple(max(-each, 0.0) for each in found.values()), ORANGE),
        ),
        categories=tuple(row.replace("_", " ") for row in found),
        words=f"Saved {sum(max(each, 0) for each in found.values()):.2f} %, paid "
        f"{-sum(min(each, 0) for each in found.values()):z.2f} %, left {sum(found.values()):z.2f} %.",
        notes=(f"recorded: {paper_data('table1')['source']}",),
    )
    return Shown(words, Picture(chart.svg()))


SAVINGS = Exercise(
    key="real_cost.savings",
    number="8.1",
    title="where did the 21.9 per cent go?",
    difficulty=1,
    minutes=10,
    name="savings",
    spec="""\
`dep` and `dwdp` say how many milliseconds of an iteration each kind of work takes under either strategy, with the
whole under `"iteration"`. `beside` are rows that run at the same time as others. Write `savings(dep, dwdp, beside)`:
for each row that is part of the iteration, what DWDP saves (negative: what it costs), in per cent of *DEP's*
iteration. The rows have to add up to what the iteration becomes shorter.""",
    stub='''\
def savings(dep: dict[str, float], dwdp: dict[str, float], beside: set[str]) -> dict[str, float]:
    """Per row, what DWDP saves in per cent of DEP's iteration; negative where it costs."""''',
    hints=(
        'One row: 100 * (dep[row] - dwdp[row]) / dep["iteration"].',
        "Which rows are not parts of the iteration? The whole itself, and what runs beside the others.",
        'Loop over dep, leave out "iteration" and everything in beside.',
    ),
    reference=answers.savings,
    view=_show,
    example=lambda: SAVED,
    properties=(
        Property("only what is part of the iteration", _on((SAVED, BESIDE), _only_parts)),
        Property("each row in per cent of DEP's iteration", _on((SAVED, DEARER, BESIDE), _each_right)),
        Property("the rows add up to the whole", _on((SAVED, DEARER, BESIDE), _adds_up)),
    ),
)
