"""Time to first token: the exercise on what a queue adds to the time of a pass."""

from __future__ import annotations

from typing import Any

from dwdp_lab.teach import judging_answers as answers
from dwdp_lab.teach.agrees import agrees, is_number
from dwdp_lab.teach.attempt import attempt
from dwdp_lab.teach.exercise import Exercise, Target
from dwdp_lab.teach.shown import Shown, table

LOADS = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95)


def _show(answer: Any) -> Shown:
    rows = []
    for load in LOADS:
        called = attempt(answer, (100.0, load))
        rows.append((f"{load:.2f}", f"{float(called.value):.0f} ms" if is_number(called.value) else str(called)))
    return Shown("a service takes 100 ms\n" + table(("load", "your ttft_ms"), rows))


def _worst_error_pct(answer: Any) -> float:
    cases = [(100.0, load) for load in LOADS]
    return max(100 * abs(float(answer(*case)) / answers.ttft_ms(*case) - 1) for case in cases)


TTFT_MS = Exercise(
    key="judging.ttft_ms",
    number="9.2",
    title="what the queue adds",
    difficulty=2,
    minutes=10,
    name="ttft_ms",
    spec="""\
The simplest queue there is: requests reach a server at random moments (a Poisson process), one after the other is
served, and each service takes exactly `service_ms`. `load` is the share of the time in which the server is busy, from 0
to below 1. Write `ttft_ms(service_ms, load)`: the mean time from a request's arrival to the end of its service. Derive
it or simulate it: an error of 5 % passes. The target is 0.5 %.""",
    stub='''\
def ttft_ms(service_ms: float, load: float) -> float:
    """Mean milliseconds from arrival to the end of the service."""''',
    hints=(
        "On an idle server it is service_ms. A request that arrives while another is served waits for the rest of that "
        "service, and for all who stand before it.",
        "Let W be the mean wait. The server is busy with probability `load`, and half a service is then left on "
        "average. Those who stand in the queue number W * load / service_ms (Little's law), each a whole service.",
        "So W = load * service_ms / 2 + load * W. Solve for W and add service_ms.",
    ),
    reference=answers.ttft_ms,
    view=_show,
    example=lambda: (10.0, 0.0),
    properties=(
        agrees(
            "an idle server: the service alone",
            "ttft_ms",
            answers.ttft_ms,
            [(10.0, 0.0), (250.0, 0.0)],
            within=0.05,
            why="Nobody else is there, and its own service a request always needs.",
        ),
        agrees(
            "half busy: half a service of waiting",
            "ttft_ms",
            answers.ttft_ms,
            [(10.0, 0.5)],
            within=0.05,
            why="All services take equally long, so whoever is being served has half of it left on average.",
        ),
        agrees(
            "a busy server has a long queue",
            "ttft_ms",
            answers.ttft_ms,
            [(10.0, 0.8), (10.0, 0.9)],
            within=0.05,
            why="With a load of {1} the wait is {1} / (2 (1 - {1})) services.",
        ),
        agrees("twice the service, twice the time", "ttft_ms", answers.ttft_ms, [(20.0, 0.5)], within=0.05),
    ),
    targets=(Target("largest error", _worst_error_pct, lambda: 0.5, "%"),),
)
