"""One simulated scenario in figures: step time and its parts, what the units were busy with, how long pulls took."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from dwdp_lab.program.operation import Unit
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.hardware import Hardware
from dwdp_lab.simulate.physics import Physics
from dwdp_lab.simulate.run import no_collection, run_in_detail
from dwdp_lab.timeline.metrics import Metrics, metrics


@dataclass(frozen=True)
class Outcome:
    """Means over ranks and steps. `unit_ms` is what each unit computed for, `pull_ms` how long pulls ran.

    `readers_share[c]` is the share of the pulls' time in which c ranks read their source at once (empty for slices).
    """

    metrics: Metrics
    unit_ms: dict[Unit, float]
    pull_ms: float
    readers_share: dict[int, float]


Simulate = Callable[[Scenario, Hardware, Physics], Outcome]
"""How to get an outcome: `outcome`, or a `Remembering` for questions that share some."""


@dataclass(frozen=True)
class Remembering:
    """Simulates what it is asked for once, and gives the same outcome when it is asked again."""

    _known: dict[tuple[str, str, Physics], Outcome] = field(default_factory=dict, repr=False)

    def __call__(self, scenario: Scenario, hardware: Hardware, physics: Physics) -> Outcome:
        """As `outcome`."""
        key = scenario.model_dump_json(), hardware.model_dump_json(), physics
        if key not in self._known:
            self._known[key] = outcome(scenario, hardware, physics)
        return self._known[key]


@no_collection()
def outcome(scenario: Scenario, hardware: Hardware, physics: Physics) -> Outcome:
    """Run the scenario's strategy in virtual time. Raises ScenarioError for a profile that cannot run it."""
    timeline, simulated = run_in_detail(scenario, hardware=hardware, physics=physics)
    rank_steps_us = 1e3 * timeline.steps * timeline.ranks
    unit_ms: dict[Unit, float] = defaultdict(float)
    for of_rank in simulated.unit_us:
        for unit, took_us in of_rank.items():
            unit_ms[unit] += took_us / rank_steps_us
    pulled_us = math.fsum([span.duration_us for span in simulated.spans if span.kind == "pull"])
    reading_us = math.fsum(simulated.readers_us.values())
    return Outcome(
        metrics(timeline),
        dict(unit_ms),
        pulled_us / rank_steps_us,
        {readers: took_us / reading_us for readers, took_us in sorted(simulated.readers_us.items())},
    )
