"""The plots page: one of the course's plots about the knobs' scenario, drawn in the background."""

from __future__ import annotations

from collections.abc import Callable

import ipywidgets as widgets

from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.view.charts.chart import Chart
from dwdp_lab.view.charts.contention import contention
from dwdp_lab.view.charts.heat_map import HeatMap
from dwdp_lab.view.charts.memory import memory_ledger
from dwdp_lab.view.charts.roofline import roofline
from dwdp_lab.view.charts.sweeps import Progress, crossover, speed_up_map, step_time_over_cv
from dwdp_lab.view.control import words
from dwdp_lab.view.control.dispatcher import Dispatcher

Drawing = Callable[[Scenario, Progress], Chart | HeatMap]

PLOTS: dict[str, Drawing] = {
    "roofline": lambda scenario, _: roofline(scenario),
    "crossover over tokens": lambda scenario, progress: crossover(scenario, progress=progress),
    "step time over CV": lambda scenario, progress: step_time_over_cv(scenario, progress=progress),
    "speed-up map": lambda scenario, progress: speed_up_map(scenario, progress=progress),
    "contention": lambda scenario, _: contention(scenario),
    "memory": lambda scenario, _: memory_ledger(scenario),
}


class Plots:
    """A list of plots, a Draw button and the picture. What is drawn stays until Draw is pressed again."""

    def __init__(self) -> None:
        self.choice = widgets.Dropdown(options=list(PLOTS), description="plot")
        self.draw = widgets.Button(description="Draw", tooltip="Draw the plot for the knobs as they stand")
        self.note = widgets.HTML()
        self.picture = widgets.HTML().add_class("dwdp-chart")
        self.drawn: Chart | HeatMap | None = None
        self._scenario: Scenario | None = None
        self._drawn_for: tuple[str, Scenario] | None = None
        self._dispatcher = Dispatcher("control room plots", self._failed)
        bar = widgets.HBox([self.choice, self.draw.add_class("dwdp-small"), self.note])
        self.widget = widgets.VBox([bar, self.picture])
        self.draw.on_click(lambda _: self.ask())
        self.choice.observe(lambda _: self.ask(), names="value")

    def about(self, scenario: Scenario) -> None:
        """The knobs' scenario is another one now."""
        self._scenario = scenario
        if self._drawn_for is not None and self._drawn_for[1] != scenario:
            self._say("The knobs have moved since: Draw renews it.")

    def ask(self) -> None:
        """Draw the chosen plot in the background."""
        scenario, name = self._scenario, self.choice.value
        if scenario is not None:
            self._say("drawing")
            self._dispatcher.submit(lambda: self._draw(name, scenario))

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until nothing is drawn. Returns whether that is so."""
        return self._dispatcher.wait(timeout_s)

    def close(self) -> None:
        """Draw no more."""
        self._dispatcher.close()

    def _draw(self, name: str, scenario: Scenario) -> None:
        drawn = PLOTS[name](scenario, lambda share: self._say(f"drawing: {100 * share:.0f} %"))
        self.drawn, self._drawn_for = drawn, (name, scenario)
        self.picture.value = drawn.svg(640)
        self._say("")

    def _failed(self, error: BaseException) -> None:
        self._say("")
        text = str(error) if isinstance(error, ScenarioError) else words.traced(error)
        self.picture.value = words.trouble(text, "Turn that knob, or choose another plot.")

    def _say(self, text: str) -> None:
        self.note.value = f"<span class='dwdp-quiet' role='status'>{text}</span>"
