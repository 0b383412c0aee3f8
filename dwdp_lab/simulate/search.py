"""Better settings for DWDP on a given machine: local experts (against memory), slices, peer order."""

from __future__ import annotations

from dataclasses import dataclass

from dwdp_lab.program.memory import ledger
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.strategy import PeerOrder
from dwdp_lab.simulate.hardware import Hardware
from dwdp_lab.simulate.outcome import Simulate, outcome
from dwdp_lab.simulate.physics import Physics
from dwdp_lab.simulate.shortened import brief

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
class Tried:
    """Settings that were simulated. `pulled_per_peer` is P = (E - L) / (N - 1), `memory_gb` the fullest rank's need.

    With L > P neighbours keep some of the same experts: less to copy is bought with memory.
    """

    local_experts: int
    pulled_per_peer: float
    peer_order: PeerOrder
    slice_bytes: int | None
    step_ms: float
    exposed_copy_ms: float
    memory_gb: float
    fits: bool


@dataclass(frozen=True)
class Best:
    """The settings with the shortest DWDP step that fit into memory. `pulled_per_peer` is P = (E - L) / (N - 1).

    Where the scenario's own do not fit, `fits` is false, and the settings are the best that need no more memory than
    these. `given_ms` is the step with the scenario's own settings, simulated for as many steps as `step_ms`. `tried` is
    all that was simulated: first the scenario's own, then orders and slices, then more local experts, also too many for
    the memory.
    """

    local_experts: int
    pulled_per_peer: float
    peer_order: PeerOrder
    slice_bytes: int | None
    step_ms: float
    given_ms: float
    fits: bool = True
    tried: tuple[Tried, ...] = ()

    @property
    def gain(self) -> float:
        """The share of the step that the settings save."""
        return 1.0 - self.step_ms / self.given_ms if self.given_ms else 0.0


def best_settings(scenario: Scenario, hardware: Hardware, physics: Physics, simulate: Simulate = outcome) -> Best:
    """Search orders and slices first, then how many experts to keep; small steps up must be worth it."""
    scenario = brief(scenario.with_strategy("dwdp"))
    given = _try(scenario, hardware, physics, simulate)
    best, shortest, tried = scenario, given.step_ms, [given]

    def consider(candidate: Scenario) -> None:
        nonlocal best, shortest
        one = _try(candidate, hardware, physics, simulate)
        tried.append(one)
        if (one.fits or one.memory_gb <= given.memory_gb) and one.step_ms < shortest * (1 - WORTH_IT):
            best, shortest = candidate, one.step_ms

    own = (scenario.strategy.peer_order, scenario.strategy.slice_bytes)
    for order, slice_bytes in COPIES if scenario.ranks > 2 else ():
        if (order, slice_bytes) != own:
            consider(scenario.replace(**{"strategy.peer_order": order, "strategy.slice_bytes": slice_bytes}))
    for local in _local_experts(scenario):
        consider(best.replace(**{"group.local_experts": local}))
    return Best(
        best.local_experts,
        _pulled_per_peer(best),
        best.strategy.peer_order,
        best.strategy.slice_bytes,
        shortest,
        given.step_ms,
        given.fits,
        tuple(tried),
    )


def _try(scenario: Scenario, hardware: Hardware, physics: Physics, simulate: Simulate) -> Tried:
    figures = simulate(scenario, hardware, physics).metrics
    memory_gb = ledger(scenario, "dwdp").total / 1e9
    return Tried(
        scenario.local_experts,
        _pulled_per_peer(scenario),
        scenario.strategy.peer_order,
        scenario.strategy.slice_bytes,
        figures.step_ms,
        figures.exposed_copy_ms,
        memory_gb,
        memory_gb <= hardware.memory_gb.value,
    )


def _pulled_per_peer(scenario: Scenario) -> float:
    return (scenario.model.experts - scenario.local_experts) / max(1, scenario.ranks - 1)


def _local_experts(scenario: Scenario) -> list[int]:
    """Some L above the least, spread up to E, such that every peer gives the same number P where possible."""
    experts, ranks = scenario.model.experts, scenario.ranks
    if ranks == 1:
        return []
    least = scenario.group.least_local_experts(experts)
    most_pulled = -(-(experts - least) // (ranks - 1))
    pulled = sorted({most_pulled * share // 8 for share in (7, 6, 4, 2, 0)}, reverse=True)
    return [local for p in pulled if (local := experts - (ranks - 1) * p) > scenario.local_experts]
