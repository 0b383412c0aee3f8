"""From how many tokens per rank on DWDP is as fast as DEP: by simulation, with all effects the profile knows."""

from __future__ import annotations

from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.workload import MAX_CV
from dwdp_lab.simulate.hardware import Hardware
from dwdp_lab.simulate.outcome import outcome
from dwdp_lab.simulate.physics import Physics
from dwdp_lab.simulate.shortened import few_layers

FEWEST, MOST = 256, 1 << 18
FINENESS = 1.02
"""The crossover is narrowed down to 2 %."""


def crossover(scenario: Scenario, hardware: Hardware, physics: Physics) -> int | None:
    """Fewest tokens per rank and pass with which DWDP's step is no longer than DEP's; None when none are enough.

    Passes keep the scenario's imbalance (mean CV of its ranks' tokens) and its mean request length. DEP exchanges
    tokens in the scenario's `dep_form`.
    """
    batches = scenario.batches
    chunks = [chunk for steps in batches.by_rank for batch in steps for chunk in batch]
    length = max(1, round(sum(chunk.new_tokens for chunk in chunks) / max(1, len(chunks))))
    given = scenario.workload
    fields: dict[str, object] = {
        "kind": "cv",
        "cv": min(batches.mean_cv(), MAX_CV),
        "isl_tokens": length,
        "router_skew": given.router_skew,
        "seed": given.seed,
    }
    scenario = few_layers(scenario)

    def ahead(tokens: int) -> bool:
        passes = scenario.replace(workload={**fields, "tokens_per_rank": tokens})
        dwdp = outcome(passes.with_strategy("dwdp"), hardware, physics).metrics
        dep = outcome(passes.with_strategy("dep"), hardware, physics).metrics
        return dwdp.tokens_per_s >= dep.tokens_per_s

    low, high = 0, FEWEST
    while not ahead(high):
        low, high = high, 2 * high
        if high > MOST:
            return None
    while low and high > low * FINENESS:
        middle = (low + high) // 2
        low, high = (low, middle) if ahead(middle) else (middle, high)
    return high
