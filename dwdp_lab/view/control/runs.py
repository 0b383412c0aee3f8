"""Runs in the background: progress, stopping at once, and what became of them."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from dwdp_lab.execute.failures import RankFailed, RunStopped
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.strategy import StrategyName
from dwdp_lab.view.control.dispatcher import Dispatcher
from dwdp_lab.view.control.machines import Machine, Results
from dwdp_lab.view.control.settings import MachineName

IDLE_S = 300.0
"""Rank processes that nobody used for so long are ended; the next run starts new ones in about two seconds."""
PROGRESS_EVERY_S = 0.1


@dataclass(frozen=True)
class RunState:
    """What a panel shows of the runs. `share` is from 0 to 1; `trouble` a traceback, `advice` the way out; `machine`
    what runs, None when nothing does."""

    phase: Literal["idle", "running", "stopping"] = "idle"
    machine: MachineName | None = None
    share: float = 0.0
    doing: str = ""
    waiting: bool = False
    trouble: str = ""
    advice: str = ""


OnResults = Callable[[Scenario, Results], None]


class Runs:
    """One run at a time, in a thread of its own; of those asked for meanwhile only the last is kept.

    `on_state` and `on_results` are called in that thread, or in the one that calls `stop`.
    """

    def __init__(
        self, on_state: Callable[[RunState], None], on_results: OnResults, idle_s: float | None = IDLE_S
    ) -> None:
        self.state = RunState()
        self._on_state = on_state
        self._on_results = on_results
        self._asked = self._stopped = threading.Event()
        self._machine: Machine | None = None
        self._told_at = 0.0
        self._lock = threading.Lock()
        self._dispatcher = Dispatcher("control room runs", self._broke, idle_s, self._let_ranks_go)

    def start(self, machine: Machine, scenario: Scenario, strategies: Sequence[StrategyName]) -> None:
        """Ask for a run. It begins when the one before it has ended, unless another is asked for first."""
        stopped = self._asked = threading.Event()
        self._dispatcher.submit(lambda: self._run(machine, scenario, strategies, stopped))
        if self._dispatcher.waiting:
            self._tell(waiting=True)

    def stop(self) -> None:
        """End the run that goes on, and forget the one that waits. Returns at once; `wait` waits for the end."""
        with self._lock:
            self._dispatcher.drop_waiting()
            self._asked.set()  # one that begins right now sees it
            machine = self._machine
            if self.state.phase != "running" or machine is None:
                return
            stopped = self._stopped
            stopped.set()
        self._tell(phase="stopping", doing="stopping", waiting=False)
        threading.Thread(target=self._end, args=(machine, stopped), name="control room stop", daemon=True).start()

    def _end(self, machine: Machine, stopped: threading.Event) -> None:
        """A run that has only just begun may start its ranks after the first call, so until it has ended; the one that
        somebody has asked for meanwhile goes on."""
        while self._dispatcher.busy and self._stopped is stopped:
            machine.stop()
            self._dispatcher.wait(0.02)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until nothing runs or waits. Returns whether that is so."""
        return self._dispatcher.wait(timeout_s)

    def close(self, machines: Sequence[Machine]) -> None:
        """Stop, take no more runs, and end all rank processes."""
        self._on_state, self._on_results = lambda _: None, lambda *_: None
        self._asked.set()
        self._stopped.set()
        self._dispatcher.close()
        for machine in machines:
            machine.stop()
        if self._machine is not None and self._dispatcher.busy:
            ending = (self._machine, self._stopped)
            threading.Thread(target=self._end, args=ending, name="control room close", daemon=True).start()

    def _run(
        self,
        machine: Machine,
        scenario: Scenario,
        strategies: Sequence[StrategyName],
        stopped: threading.Event,
    ) -> None:
        with self._lock:
            self._stopped, self._machine = stopped, machine
            self.state = RunState("running", machine.name, doing=f"{machine.label}: starting")
        self._on_state(self.state)
        try:
            timelines = machine.run(scenario, strategies, self._progress, stopped)
        except RunStopped:
            self._finished(RunState(doing="stopped"))
        except (ScenarioError, RankFailed) as error:
            self._finished(_trouble(error))
        else:
            self._on_results(scenario, timelines)
            self._finished(RunState(doing="done"))

    def _finished(self, state: RunState) -> None:
        with self._lock:
            self.state = state
        self._on_state(state)

    def _progress(self, share: float, doing: str) -> None:
        now = time.monotonic()
        if now - self._told_at >= PROGRESS_EVERY_S and self.state.phase == "running":
            self._told_at = now
            self._tell(share=share, doing=doing)

    def _tell(self, **changes: object) -> None:
        with self._lock:
            if self.state.phase == "idle":
                return
            self.state = replace(self.state, **changes)  # type: ignore[arg-type]
            state = self.state
        self._on_state(state)

    def _broke(self, error: BaseException) -> None:
        self._finished(_trouble(error))

    def _let_ranks_go(self) -> None:
        if self._machine is not None:
            self._machine.stop()


def _trouble(error: BaseException) -> RunState:
    """The state after a run that did not end well: what happened, and what to do now."""
    if isinstance(error, ScenarioError):
        return RunState(doing="refused", trouble=str(error), advice="Turn that knob, or choose the simulator.")
    if isinstance(error, RankFailed):
        who = "The launcher" if error.rank is None else f"Rank {error.rank}"
        advice = f"{who} failed and all ranks have been ended. Run starts new ones; knobs and history are as they were."
        return RunState(doing="failed", trouble=str(error), advice=advice)
    text = "".join(traceback.format_exception(error))
    return RunState(doing="failed", trouble=text, advice="Nothing runs now. Run again, or turn a knob.")
