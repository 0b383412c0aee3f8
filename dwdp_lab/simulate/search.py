"""Better settings for DWDP on a given machine: local experts, slices, peer order; and how it scales with the group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dwdp_lab.program.memory import ledger
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.strategy import PeerOrder
from dwdp_lab.simulate.hardware import Hardware
from dwdp_lab.simulate.outcome import simulate
from dwdp_lab.simulate.physics import Physics

MIB = 1 << 20
COPIES: tuple[tuple[PeerOrder, int | None], ...] = (
    ("rotated", None),
    ("ascending", None),
    ("interleaved", MIB),
    ("interleaved", 2 * MIB),
    ("interleaved", 8 * MIB),
    ("permutation", 2 * MIB),
)
"""Orders and slices tried, the simplest first."""

WORTH_IT = 0.005
"""A setting that costs more memory or copies must shorten the step by this share."""


@dataclass(frozen=True)
class Best:
    """The settings with the shortest DWDP step that fit into memory. `pulled_per_peer` is P = (E - L) / (N - 1).

    `given_ms` is the step with the scenario's own settings, simulated for as many steps as `step_ms`.
    """

    local_experts: int
    pulled_per_peer: float
    peer_order: PeerOrder
    slice_bytes: int | None
    step_ms: float
    given_ms: float

    @property
    def gain(self) -> float:
        """The share of the step that the settings save."""
        return 1.0 - self.step_ms / self.given_ms if self.given_ms else 0.0


def brief(scenario: Scenario, steps: int = 2) -> Scenario:
    """The scenario with few steps, for workloads that can be shortened."""
    if getattr(scenario.workload, "steps", 1) <= steps:
        return scenario
    return scenario.replace(**{"workload.steps": steps})


def best_settings(scenario: Scenario, hardware: Hardware, physics: Physics) -> Best:
    """Search orders and slices first, then how many experts to keep; small steps up must be worth it."""
    scenario = brief(scenario.with_strategy("dwdp"))

    def step_ms(candidate: Scenario) -> float:
        return simulate(candidate, hardware, physics).metrics.step_ms

    best, given_ms = scenario, step_ms(scenario)
    shortest = given_ms
    for order, slice_bytes in COPIES if scenario.ranks > 2 else ():
        candidate = scenario.replace(**_copying(order, slice_bytes))
        took = step_ms(candidate)
        if took < shortest * (1 - WORTH_IT):
            best, shortest = candidate, took
    for local in _local_experts(scenario):
        candidate = best.replace(**{"group.local_experts": local})
        if ledger(candidate, "dwdp").total > hardware.memory_gb.value * 1e9:
            break
        took = step_ms(candidate)
        if took < shortest * (1 - WORTH_IT):
            best, shortest = candidate, took
    remote = scenario.model.experts - best.local_experts
    return Best(
        best.local_experts,
        remote / max(1, scenario.ranks - 1),
        best.strategy.peer_order,
        best.strategy.slice_bytes,
        shortest,
        given_ms,
    )


def _copying(order: PeerOrder, slice_bytes: int | None) -> dict[str, object]:
    return {"strategy.peer_order": order, "strategy.slice_bytes": slice_bytes}


def _local_experts(scenario: Scenario) -> list[int]:
    """Some L above the least, spread up to E, such that every peer gives the same number P where possible."""
    experts, ranks = scenario.model.experts, scenario.ranks
    if ranks == 1:
        return []
    least = scenario.group.least_local_experts(experts)
    most_pulled = -(-(experts - least) // (ranks - 1))
    pulled = sorted({most_pulled * share // 8 for share in (7, 6, 4, 2, 0)}, reverse=True)
    return [local for p in pulled if (local := experts - (ranks - 1) * p) > scenario.local_experts]


@dataclass(frozen=True)
class OfRanks:
    """One row of the table over N."""

    ranks: int
    dep_tokens_per_s_per_gpu: float
    dwdp_tokens_per_s_per_gpu: float
    dwdp_exposed_copy_ms: float
    dwdp_memory_gb: float
    fits: bool

    @property
    def dwdp_over_dep(self) -> float:
        return self.dwdp_tokens_per_s_per_gpu / self.dep_tokens_per_s_per_gpu


def over_ranks(scenario: Scenario, hardware: Hardware, physics: Physics, sizes: Sequence[int]) -> tuple[OfRanks, ...]:
    """DEP beside DWDP for other group sizes, as few local experts as each allows (L as given for the scenario's N)."""
    rows = []
    for ranks in sizes:
        changes: dict[str, object] = {} if ranks == scenario.ranks else {"group": {"ranks": ranks}}
        one = brief(scenario.replace(**changes))
        dep = simulate(one.with_strategy("dep"), hardware, physics).metrics
        dwdp = simulate(one.with_strategy("dwdp"), hardware, physics).metrics
        memory = ledger(one, "dwdp").total / 1e9
        rows.append(
            OfRanks(
                ranks,
                dep.tokens_per_s,
                dwdp.tokens_per_s,
                dwdp.exposed_copy_ms,
                memory,
                memory <= hardware.memory_gb.value,
            )
        )
    return tuple(rows)
