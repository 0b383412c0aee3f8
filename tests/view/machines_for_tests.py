"""A machine that runs as long as a test wants, and what a room shows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from dwdp_lab.execute.failures import RunStopped
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.strategy import StrategyName
from dwdp_lab.simulate.run import run_sim
from dwdp_lab.timeline.span import Timeline
from dwdp_lab.view import ControlRoom

LONG_S = 20.0


class Patient:
    """Each run waits until `go_on` is set, or until it is stopped; `fails` is raised instead of a result."""

    name = "cpu"
    label = "patient ranks"
    missing = ""
    pids: tuple[int, ...] = ()

    def __init__(self) -> None:
        self.began, self.go_on, self.ended = threading.Event(), threading.Event(), threading.Event()
        self.fails: BaseException | None = None
        self.ran: list[tuple[Scenario, tuple[StrategyName, ...]]] = []
        self.stops = 0

    def run(
        self,
        scenario: Scenario,
        strategies: Sequence[StrategyName],
        progress: Callable[[float, str], None],
        stopped: threading.Event,
    ) -> dict[StrategyName, Timeline]:
        self.ran.append((scenario, tuple(strategies)))
        progress(0.5, "half done")
        self.began.set()
        while not self.go_on.wait(0.01):
            if stopped.is_set() and self.stops:
                raise RunStopped("stopped")
        if self.fails is not None:
            raise self.fails
        progress(1.0, "done")
        return {name: measured(scenario.with_strategy(name)) for name in strategies}

    def stop(self) -> None:
        self.stops += 1


def measured(scenario: Scenario) -> Timeline:
    """A simulation that passes for a measurement, twice as slow."""
    run = run_sim(scenario)
    spans = tuple(span._replace(start_us=2 * span.start_us, end_us=2 * span.end_us) for span in run.spans)
    return Timeline(spans, run.strategy, "cpu", "measured", run.tokens, run.steps, ("made by a test",))


def shown_by(room: ControlRoom) -> list[str]:
    """Strategy and provenance of the runs that are shown, from top to bottom."""
    return [f"{timeline.strategy} {timeline.provenance}" for timeline in room.timelines]
