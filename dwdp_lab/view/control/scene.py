"""What is shown: one run or two, and the difference in words."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import get_args

from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.strategy import Strategy, StrategyName
from dwdp_lab.simulate.hardware import load_hardware
from dwdp_lab.simulate.physics import BOUND, Physics
from dwdp_lab.simulate.run import run_sim
from dwdp_lab.timeline.compare import compare
from dwdp_lab.timeline.metrics import Metrics, metrics
from dwdp_lab.timeline.palette import strategy_name
from dwdp_lab.timeline.span import Timeline
from dwdp_lab.view.control.history import History, Run
from dwdp_lab.view.simulated_measured import KindError, kind_errors

ALONE = "alone"
SIMULATION = "sim"


@dataclass(frozen=True)
class Scene:
    """`timelines` from top to bottom: the one compared with, if any, then the one it is about."""

    timelines: tuple[Timeline, ...]
    link_gbps: tuple[float | None, ...]
    metrics: tuple[Metrics, ...]
    words: str
    errors: tuple[KindError, ...] = ()
    """Simulated against measured, when the run is measured and its scenario is known."""

    @property
    def shown(self) -> Timeline:
        """The run that the scene is about."""
        return self.timelines[-1]


def compared_strategy(compared: str) -> StrategyName | None:
    """The strategy of `strategy:NAME`; None for anything else that a run may be compared with."""
    kind, _, name = compared.partition(":")
    return next((each for each in get_args(StrategyName) if kind == "strategy" and each == name), None)


def scene(subject: Scenario | Run, compared: str, history: History, physics: Physics = BOUND) -> Scene:
    """The scene about a scenario (simulated now) or about a run of the history.

    `compared` is `alone`, `sim` (the same scenario simulated), `strategy:NAME` (the same scenario under another
    strategy: for a kept run its partner on the same machine, if there is one, else simulated) or `run:NUMBER`.
    `physics` is that of all that is simulated here. Raises ScenarioError for a scenario that cannot be simulated.
    """
    if isinstance(subject, Run):
        shown, scenario = subject.timeline, subject.scenario
    else:
        shown, scenario = simulated(subject, physics), subject
    link = _link_gbps(scenario, shown)
    twin = errors = None
    if isinstance(subject, Run) and scenario is not None and shown.machine != "sim":
        twin = simulated(scenario, physics)
        errors = tuple(kind_errors(twin, shown)) if twin.tokens == shown.tokens else ()
    other = _other(subject, scenario, compared, history, twin, physics)
    if other is None or other is shown or not other.spans:
        return Scene((shown,), (link,), (metrics(shown),), f"{strategy_name(shown)} alone", errors or ())
    difference = compare(shown, other)
    other_link = _link_gbps(scenario if not compared.startswith("run:") else None, other)
    measured = (difference.baseline, difference.run)
    return Scene((other, shown), (other_link, link), measured, difference.words, errors or ())


_known: deque[tuple[tuple[Scenario, Physics], Timeline]] = deque(maxlen=4)


def simulated(scenario: Scenario, physics: Physics = BOUND) -> Timeline:
    """The simulation of a scenario, kept for as long as the knobs that the strategy uses stay where they are."""
    used = {
        "dep": ("name", "dep_form", "dep_rows"),
        "replicated": ("name",),
        "tensor": ("name",),
        "pipeline": ("name", "micro_batches"),
    }.get(scenario.strategy.name)
    needed = scenario
    if used is not None:
        strategy = Strategy(**{name: getattr(scenario.strategy, name) for name in used})
        needed = scenario.model_copy(update={"strategy": strategy})
    key = needed, physics
    for known, timeline in tuple(_known):
        if known == key:
            return timeline
    timeline = run_sim(scenario, physics=physics)
    _known.append((key, timeline))
    return timeline


def _other(
    subject: Scenario | Run,
    scenario: Scenario | None,
    compared: str,
    history: History,
    twin: Timeline | None,
    physics: Physics,
) -> Timeline | None:
    if compared.startswith("run:"):
        return history.get(int(compared.removeprefix("run:"))).timeline
    if compared == SIMULATION:
        return twin
    strategy = compared_strategy(compared)
    if strategy is None or scenario is None or strategy == scenario.strategy.name:
        return None
    if isinstance(subject, Run):
        partner = history.partner(subject, strategy)
        if partner is not None:
            return partner.timeline
    return simulated(scenario.with_strategy(strategy), physics)


def _link_gbps(scenario: Scenario | None, timeline: Timeline) -> float | None:
    """The link's speed, where it is known: what was asked for, or the profile's for a simulation."""
    if scenario is None or len(timeline.tokens) < 2:
        return None
    speed = scenario.link_gbps
    if speed is None and timeline.machine == "sim":
        speed = load_hardware(scenario.hardware).link_gbps.value
    return speed if speed is not None and speed < 1e9 else None
