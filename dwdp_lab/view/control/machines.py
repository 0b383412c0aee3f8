"""What can run a scenario: the simulator, rank processes on the CPU, and, where there are any, GPUs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from dwdp_lab.execute.cuda.refusal import check_gpus_here
from dwdp_lab.execute.failures import RunStopped
from dwdp_lab.execute.launch import RankMachineName
from dwdp_lab.execute.ranks import Ranks
from dwdp_lab.execute.run_on_ranks import run_on_ranks
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.strategy import StrategyName
from dwdp_lab.simulate.physics import BOUND, Physics
from dwdp_lab.simulate.run import run_sim
from dwdp_lab.timeline.span import Timeline
from dwdp_lab.view.control.settings import MachineName

Progress = Callable[[float, str], None]
Results = dict[StrategyName, Timeline]


class Machine(Protocol):
    """One entry of the machine knob. `missing` says why it cannot be chosen here; empty when it can."""

    name: MachineName
    label: str
    missing: str

    def run(
        self, scenario: Scenario, strategies: Sequence[StrategyName], progress: Progress, stopped: threading.Event
    ) -> Results:
        """One timeline per strategy. Raises RunStopped soon after `stopped` is set and `stop` is called."""
        ...

    def stop(self) -> None:
        """End what runs, now; may be called from any thread, and again."""
        ...

    @property
    def pids(self) -> tuple[int, ...]:
        """The rank processes that are there."""
        ...


class Simulator:
    """Virtual time."""

    name: MachineName = "sim"
    label = "simulator"
    missing = ""
    pids: tuple[int, ...] = ()

    def __init__(self, physics: Physics = BOUND) -> None:
        self.physics = physics

    def run(
        self, scenario: Scenario, strategies: Sequence[StrategyName], progress: Progress, stopped: threading.Event
    ) -> Results:
        timelines: Results = {}
        for number, name in enumerate(strategies):
            if stopped.is_set():
                raise RunStopped("stopped")
            progress(number / len(strategies), f"simulating {name}")
            timelines[name] = run_sim(scenario.with_strategy(name), physics=self.physics)
        return timelines

    def stop(self) -> None:
        """A simulation cannot be interrupted; the next one is not begun."""


class RankProcesses:
    """Rank processes on this machine's CPU or GPUs. They stay for the next run, and end with `stop`."""

    missing = ""

    def __init__(self, machine: RankMachineName, label: str) -> None:
        self.name: MachineName = machine
        self.label = label
        self._machine: RankMachineName = machine
        self._ranks: Ranks | None = None

    def run(
        self, scenario: Scenario, strategies: Sequence[StrategyName], progress: Progress, stopped: threading.Event
    ) -> Results:
        progress(0.0, "loading torch")
        import dwdp_lab.model.supported  # noqa: F401 - takes seconds the first time, and cannot be stopped meanwhile

        if stopped.is_set():
            raise RunStopped("stopped before the ranks started")
        if self._ranks is None or self._ranks.size != scenario.ranks:
            self.stop()
            self._ranks = Ranks(scenario.ranks, machine=self._machine)
        progress(0.0, "ranks at work" if self._ranks.alive else f"starting {scenario.ranks} ranks")
        results = run_on_ranks(self._machine, scenario, strategies, self._ranks, progress)
        return {name: results[name].timeline for name in strategies}

    def stop(self) -> None:
        if self._ranks is not None:
            self._ranks.stop()

    @property
    def pids(self) -> tuple[int, ...]:
        return self._ranks.pids if self._ranks is not None else ()


class Missing:
    """The place of a machine that cannot be chosen here."""

    pids: tuple[int, ...] = ()

    def __init__(self, name: MachineName, label: str, missing: str) -> None:
        self.name: MachineName = name
        self.label = label
        self.missing = missing

    def run(
        self, scenario: Scenario, strategies: Sequence[StrategyName], progress: Progress, stopped: threading.Event
    ) -> Results:
        del scenario, strategies, progress, stopped
        raise RuntimeError(f"{self.label}: {self.missing}")

    def stop(self) -> None:
        """Nothing runs here."""


def _gpus() -> Machine:
    """What cannot be a GPU machine is told without loading torch."""
    label = "live GPUs"
    if not (Path("/dev/nvidia0").exists() or Path("/dev/dxg").exists()):
        return Missing("cuda", label, "no NVIDIA GPU here")
    try:
        check_gpus_here()
    except ScenarioError as error:
        return Missing("cuda", label, f"{error.allowed}; {error.hint}")
    return RankProcesses("cuda", label)


def machines() -> dict[MachineName, Machine]:
    """The machines of the knob, in its order. A further machine is one more entry here."""
    every: tuple[Machine, ...] = (Simulator(), RankProcesses("cpu", "CPU ranks"), _gpus())
    return {machine.name: machine for machine in every}
