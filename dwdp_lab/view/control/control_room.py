"""The control room: turn a knob and see what the model says; run, and see on the same axes what the ranks did."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.strategy import StrategyName
from dwdp_lab.simulate.physics import physics_named
from dwdp_lab.timeline.span import Timeline
from dwdp_lab.view.control import words
from dwdp_lab.view.control.choices import value
from dwdp_lab.view.control.face import Face
from dwdp_lab.view.control.history import Run
from dwdp_lab.view.control.history_table import HistoryTable
from dwdp_lab.view.control.knob_panel import KnobPanel
from dwdp_lab.view.control.knobs import scenario_of
from dwdp_lab.view.control.machines import Results, Simulator, machines
from dwdp_lab.view.control.one_room import leave, take_over
from dwdp_lab.view.control.plots import Plots
from dwdp_lab.view.control.runs import IDLE_S, Runs, RunState
from dwdp_lab.view.control.scene import compared_strategy
from dwdp_lab.view.control.settings import MachineName, Settings, knob_of
from dwdp_lab.view.control.showing import Showing
from dwdp_lab.view.picture import Picture


class ControlRoom:
    """Knobs, a timeline of what they mean, and runs. Shown as the last value of a cell.

    `scenario` is where the knobs stand at first, `machine` what Run uses, `compared` what is shown beside the run:
    `strategy:dep` (or another strategy on the same work), `sim` (a measured run's simulation), `run:3`, or `alone`.

    Whatever a hand can do, code can: `turn(cv=0.3)`, `run()`, `stop()`, `wait()`, `show(3)`, `compare_with(...)`,
    `save(path)`, `open(path)`. A kernel has one room; the next one closes this one and takes over its history.
    Rank processes that nobody used for `idle_s` seconds are ended; the next run starts new ones.

    Raises ScenarioError for a machine that is not here, and for a scenario whose knobs make none.
    """

    def __init__(
        self,
        scenario: Scenario | None = None,
        machine: MachineName = "sim",
        compared: str = "strategy:dep",
        idle_s: float | None = IDLE_S,
    ) -> None:
        self.machines = machines()
        if machine not in self.machines or self.machines[machine].missing:
            known = ", ".join(name for name, each in self.machines.items() if not each.missing)
            raise ScenarioError("machine", machine, f"allowed here are {known}")
        self.settings = Settings.of(scenario, machine)
        self._scenario = scenario_of(self.settings)
        self._refusal: ScenarioError | None = None
        self._run: Run | None = None  # of the history, when one is shown instead of the knobs' scenario
        self._lock = threading.RLock()
        self.history = take_over(self)
        self.knobs = KnobPanel(self.settings, self.machines, lambda name, value: self.turn(**{name: value}))
        self.plots = Plots()
        self._table = HistoryTable(self.show, lambda number: self.compare_with(f"run:{number}"), self.forget)
        self.face = Face(self.knobs.widget, self._table.widget, self.plots.widget)
        self._showing = Showing(self.face, self.history, compared, self.compare_with, self._cannot_show)
        self._runs = Runs(self._show_state, self._keep, idle_s)
        self.face.run.on_click(lambda _: self.run())
        self.face.stop.on_click(lambda _: self.stop())
        self.face.back.on_click(lambda _: self.show(None))
        self.face.save.on_click(lambda _: self.face.view.download("dwdp-runs.json", self.history.to_text()))
        self.face.open.observe(self._uploaded, names="value")
        self._table.draw(self.history)
        self._settings_changed()

    # --- what a hand or code does
    def turn(self, **knobs: Any) -> None:
        """Turn knobs by name: `turn(strategy="dep", cv=0.3, ranks=8)`. Raises KeyError for a name that is none."""
        with self._lock:
            for name, value in knobs.items():
                self.settings.set(name, value)
            self._run = None
            self._settings_changed()

    def run(self) -> None:
        """Run the knobs' scenario, and the strategy it is compared with, on the chosen machine, in the background.

        Raises ScenarioError when the knobs say something that cannot be.
        """
        with self._lock:
            if self._refusal is not None:
                raise self._refusal
            own = self._scenario.strategy.name
            other = compared_strategy(self._showing.now(self._scenario))
            strategies: list[StrategyName] = [own] if other is None else [other, own]
            machine = self.machines[self.settings.machine]
            if isinstance(machine, Simulator):  # the run may wait, and the knob move meanwhile
                machine = Simulator(self._showing.physics)
            self._runs.start(machine, self._scenario, strategies)

    def stop(self) -> None:
        """End the run at once, with its rank processes; the run that waits is forgotten."""
        self._runs.stop()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until nothing runs and everything is shown. Returns whether that is so. An interrupt stops the run."""
        try:
            return self._runs.wait(timeout_s) and self._showing.wait(timeout_s) and self.plots.wait(timeout_s)
        except KeyboardInterrupt:
            self.stop()
            raise

    def show(self, number: int | None) -> None:
        """Show a run of the history, or (None) what the knobs say."""
        with self._lock:
            self._run = None if number is None else self.history.get(number)
            self._settings_changed()

    def compare_with(self, compared: str) -> None:
        """Compare with something else; see the class for what there is."""
        with self._lock:
            self._showing.compared = compared
            self._settings_changed()

    def forget(self, number: int) -> None:
        """Remove a run from the history."""
        with self._lock:
            if self._run is not None and self._run.number == number:
                self._run = None
            self.history.remove(number)
            self._table.draw(self.history)
            self._settings_changed()

    def save(self, path: str | Path) -> Path:
        """Write the history to a JSON file and return its path."""
        path = Path(path)
        path.write_text(self.history.to_text(), encoding="utf-8")
        return path

    def open(self, path: str | Path) -> list[Run]:
        """Add the runs of a file to the history, as `recorded`, and show the last. Raises ValueError, OSError."""
        return self._opened(Path(path).read_text(encoding="utf-8"))

    def close(self) -> None:
        """End all runs and rank processes, and empty the panel. Another room does this when it is made, and goes on
        with the history."""
        leave(self)
        self._runs.close(list(self.machines.values()))
        self._showing.close()
        self.plots.close()
        self.face.close()

    # --- what can be read
    @property
    def scenario(self) -> Scenario:
        """What the knobs say; the last that could be used when they say something that cannot."""
        return self._scenario

    @property
    def state(self) -> RunState:
        """What the runs are doing."""
        return self._runs.state

    @property
    def timelines(self) -> tuple[Timeline, ...]:
        """What is shown, from top to bottom."""
        return self._showing.scene.timelines if self._showing.scene is not None else ()

    @property
    def words(self) -> str:
        """The difference between the two runs that are shown."""
        return self._showing.scene.words if self._showing.scene is not None else ""

    def picture(self) -> Picture:
        """What is shown now as an SVG, for where widgets do not work."""
        return self.face.view.static(self.words.partition(": ")[0])

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.face.widget._repr_mimebundle_(**options)

    # --- what follows
    def _settings_changed(self) -> None:
        """Something was turned or chosen: the knobs follow, and the picture, unless the knobs say what cannot be."""
        try:
            self._scenario = scenario_of(self.settings)
        except ScenarioError as error:
            self._refuse(error)
            self.knobs.show(self.settings, (knob_of(error), str(error)))
            return
        self._refusal = None
        self.face.run.disabled = False
        self._showing.physics = physics_named(value(self.settings, "physics"))
        self.settings.compared = compared_strategy(self._showing.now(self._scenario))
        self.knobs.show(self.settings)
        self.plots.about(self._scenario)
        self._showing.show(self._run or self._scenario)

    def _refuse(self, error: ScenarioError) -> None:
        self._refusal = error
        self.face.run.disabled = True
        self._showing.refuse(str(error))

    def _cannot_show(self, error: BaseException) -> None:
        """In the thread that draws: what only simulating finds wrong."""
        if isinstance(error, ScenarioError):
            self._refuse(error)
            self.knobs.complain(knob_of(error), str(error))
        else:
            self.face.trouble.value = words.trouble(words.traced(error), "Turn a knob to go on.")

    def _show_state(self, state: RunState) -> None:
        self.face.show_state(state)
        self.face.trouble.value = words.trouble(state.trouble, state.advice)

    def _keep(self, scenario: Scenario, results: Results) -> None:
        """In the thread of the runs: results have come. Keep them, and show the last."""
        with self._lock:
            for strategy, timeline in results.items():
                self._run = self.history.add(timeline, scenario.with_strategy(strategy))
            self._table.draw(self.history)
            self._showing.show(self._run or self._scenario)

    def _opened(self, text: str) -> list[Run]:
        with self._lock:
            runs = self.history.open_text(text)
            self._table.draw(self.history)
            if runs:
                self.show(runs[-1].number)
            return runs

    def _uploaded(self, change: dict[str, Any]) -> None:
        for file in change["new"]:
            try:
                self._opened(bytes(file["content"]).decode())
            except (ValueError, KeyError) as error:
                said = f"{file['name']}: {error}"
                self.face.trouble.value = words.trouble(said, "Open a file that Save wrote.")
        if change["new"]:
            self.face.open.value = ()
