"""Small batches: pulling only the experts that tokens were routed to, against pulling all of them ahead of time.

A batch of T tokens visits an expert with probability 1 - (1 - p)^T, so a small one needs few of the experts it lacks.
But which ones is known only when the layer has routed: nothing hides their pull, while a pull of all experts runs
beside the layers before. The larger the batch, the less there is to leave out and the more there is to hide behind.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dwdp_lab.program.build import build
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.hardware import Hardware, load_hardware
from dwdp_lab.simulate.outcome import outcome
from dwdp_lab.simulate.physics import BOUND, Physics

TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384)


@dataclass(frozen=True)
class SmallBatch:
    """Step times with so many tokens per rank; `pulled_share` is what routed pulls move of what all would."""

    tokens: int
    pulled_share: float
    all_ms: float
    routed_ms: float
    dep_ms: float

    @property
    def best(self) -> str:
        """The shortest: `all`, `routed` (both DWDP) or `dep`."""
        times = {"all": self.all_ms, "routed": self.routed_ms, "dep": self.dep_ms}
        return min(times, key=lambda name: times[name])


def over_batches(
    scenario: Scenario,
    hardware: Hardware | None = None,
    physics: Physics = BOUND,
    tokens: Sequence[int] = TOKENS,
) -> tuple[SmallBatch, ...]:
    """Both kinds of pulls, and DEP, in one balanced pass of so many tokens per rank, in requests as the scenario's are.

    Raises ScenarioError for a profile that is unknown or cannot run the model.
    """
    profile = hardware or load_hardware(scenario.hardware)
    chunks = [len(batch) for steps in scenario.batches.by_rank for batch in steps]
    total = sum(scenario.batches.tokens(rank) for rank in range(scenario.ranks))
    given = scenario.workload
    rows = []
    for count in tokens:
        workload = {
            "kind": "cv",
            "cv": 0.0,
            "tokens_per_rank": count,
            "isl_tokens": max(1, round(total / max(1, sum(chunks)))),
            "router_skew": given.router_skew,
            "seed": given.seed,
        }
        one = scenario.replace(workload=workload, **{"strategy.name": "dwdp", "strategy.pull": "all"})
        routed = one.replace(**{"strategy.pull": "routed"})
        whole = _pulled_bytes(one)
        rows.append(
            SmallBatch(
                count,
                _pulled_bytes(routed) / whole if whole else 0.0,
                outcome(one, profile, physics).metrics.step_ms,
                outcome(routed, profile, physics).metrics.step_ms,
                outcome(one.with_strategy("dep"), profile, physics).metrics.step_ms,
            )
        )
    return tuple(rows)


def _pulled_bytes(scenario: Scenario) -> float:
    return math.fsum(op.pull.nbytes for program in build(scenario) for op in program.ops if op.pull is not None)
