"""How DEP and DWDP scale with the group, within a node and beyond it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dwdp_lab.program.memory import ledger
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.faster_dep import with_the_faster_dep
from dwdp_lab.simulate.hardware import Hardware
from dwdp_lab.simulate.outcome import Simulate, outcome
from dwdp_lab.simulate.physics import Physics
from dwdp_lab.simulate.shortened import brief


@dataclass(frozen=True)
class OfRanks:
    """One row of the table over N. `nodes` is how many nodes (or racks) of the profile so many ranks take."""

    ranks: int
    nodes: int
    dep_tokens_per_s_per_gpu: float
    dwdp_tokens_per_s_per_gpu: float
    dwdp_exposed_copy_ms: float
    dwdp_memory_gb: float
    fits: bool

    @property
    def dwdp_over_dep(self) -> float:
        return self.dwdp_tokens_per_s_per_gpu / self.dep_tokens_per_s_per_gpu


def over_ranks(
    scenario: Scenario, hardware: Hardware, physics: Physics, sizes: Sequence[int], simulate: Simulate = outcome
) -> tuple[OfRanks, ...]:
    """DEP beside DWDP for other group sizes, as few local experts as each allows (L as given for the scenario's N).

    Where `dep_form` is auto, DEP takes for each size the form that is faster there.
    """
    rows = []
    for ranks in sizes:
        changes: dict[str, object] = {} if ranks == scenario.ranks else {"group": {"ranks": ranks}}
        one = brief(with_the_faster_dep(scenario.replace(**changes), hardware, physics, simulate))
        dep = simulate(one.with_strategy("dep"), hardware, physics).metrics
        dwdp = simulate(one.with_strategy("dwdp"), hardware, physics).metrics
        memory = ledger(one, "dwdp").total / 1e9
        rows.append(
            OfRanks(
                ranks,
                hardware.nodes(ranks),
                dep.tokens_per_s,
                dwdp.tokens_per_s,
                dwdp.exposed_copy_ms,
                memory,
                memory <= hardware.memory_gb.value,
            )
        )
    return tuple(rows)
