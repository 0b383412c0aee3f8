"""The exercise on exposed copy: copying that no computation covers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from dwdp_lab.teach import real_cost_answers as answers
from dwdp_lab.teach.agrees import agrees
from dwdp_lab.teach.attempt import attempt, shown
from dwdp_lab.teach.exercise import Exercise
from dwdp_lab.teach.shown import Shown, table
from dwdp_lab.timeline.metrics import metrics
from dwdp_lab.timeline.span import Span, Timeline
from dwdp_lab.view.picture import timeline_picture

Interval = tuple[float, float]


class Case(NamedTuple):
    """When one rank computes and when it copies, in microseconds."""

    compute: list[Interval]
    copies: list[Interval]


def run_of(case: Case) -> Timeline:
    """One rank's run with these spans."""
    spans = [Span(0, "compute", "experts", 0, layer, *times) for layer, times in enumerate(case.compute)]
    spans += [Span(0, "copy", "pull", 0, layer, *times) for layer, times in enumerate(case.copies)]
    return Timeline(tuple(spans), "an example", "sim", "simulated", (0,), 1, notes=("times are made up",))


def right(compute: Sequence[Interval], copies: Sequence[Interval]) -> float:
    """As the lab's own metrics say."""
    return 1e3 * metrics(run_of(Case(list(compute), list(copies)))).exposed_copy_ms


HIDDEN = [Case([(0, 4)], [(0, 4)]), Case([(0, 4)], [(1, 3)]), Case([(0, 4)], [])]
IN_FRONT = [Case([(2, 4)], [(0, 2)]), Case([(0, 2), (5, 7)], [(2, 5)])]
PARTLY = [
    Case([(2, 6)], [(0, 4)]),
    Case([(0, 2), (5, 7)], [(1, 6)]),
    Case([(0, 1), (2, 3), (4, 5)], [(0, 5)]),
    Case([(0.5, 2.25)], [(0, 1.75)]),
]
STILL = [Case([(0, 2), (5, 7)], []), Case([(0, 2), (5, 7)], [(2, 3)])]
LATER = [Case([(4, 9)], [(0, 4), (4, 5)]), Case([(0, 5), (7, 12)], [(5, 7), (8, 9)])]
AT_ONCE = [Case([(3, 4)], [(0, 2), (1, 3)]), Case([(3, 4)], [(0, 3), (1, 2)])]
AFTER = [Case([(0, 2)], [(1, 5)]), Case([(0, 2)], [(3, 5)]), Case([(1, 2)], [(0, 1), (1, 4)])]
SHOWN = Case([(0, 30), (42, 70), (78, 100)], [(0, 20), (20, 42), (50, 78), (80, 110)])


def _show(answer: Any) -> Shown:
    rows = []
    for case in (HIDDEN[1], IN_FRONT[1], PARTLY[1], LATER[0], AT_ONCE[0], SHOWN):
        called = attempt(answer, case)
        copied = sum(end - start for start, end in case.copies)
        rows.append((shown(case.compute), shown(case.copies), f"{copied:g}", f"{called}"))
    words = table(("computes, us", "copies, us", "copied, us", "your exposed_us"), rows)
    return Shown(words, timeline_picture(run_of(SHOWN), title="The last of these: dark orange is exposed copy"))


EXPOSED = Exercise(
    key="real_cost.exposed_us",
    number="8.2",
    title="how much of the copying costs time?",
    difficulty=2,
    minutes=10,
    name="exposed_us",
    spec="""\
`compute` and `copies` are lists of `(start, end)` of one rank, in microseconds and in order: when its compute lane
works and when it copies (several copies may run at once). Write `exposed_us(compute, copies)`: for how long something
is copied while nothing is computed. The run ends with the last computation; what is still copied after that belongs to
the next.""",
    stub='''\
def exposed_us(compute: list[tuple[float, float]], copies: list[tuple[float, float]]) -> float:
    """Microseconds in which the rank copies and does not compute."""''',
    hints=(
        "It is not the sum of the copies less the sum of the computation: a copy that came too late is not hidden "
        "by work that was done before, or comes after.",
        "Collect all starts and ends and sort them. Between two neighbours nothing begins or ends, so the rank either "
        "computes there or not, and either copies or not.",
        "Sum stop - begin over the neighbours (begin, stop) for which some copy has first <= begin and stop <= "
        "last, and no computation has. Leave out times after the last computation's end.",
    ),
    reference=answers.exposed_us,
    view=_show,
    example=lambda: Case([(0, 1)], []),
    properties=(
        agrees("what computation covers costs nothing", "exposed_us", right, HIDDEN),
        agrees("a copy with nothing beside it is exposed", "exposed_us", right, IN_FRONT),
        agrees("only the part that is not covered counts", "exposed_us", right, PARTLY),
        agrees("standing still without a copy is not exposed copy", "exposed_us", right, STILL),
        agrees(
            "computation covers what runs at that moment only",
            "exposed_us",
            right,
            LATER,
            why="Work at another time hides nothing.",
        ),
        agrees("copies at the same time count once", "exposed_us", right, AT_ONCE),
        agrees("the run ends with the last computation", "exposed_us", right, AFTER),
    ),
)
