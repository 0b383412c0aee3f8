"""How much memory CPU ranks will need, so that too large a model is refused before anything starts."""

from __future__ import annotations

from collections.abc import Sequence

import psutil

from dwdp_lab.program.memory import ledger
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario

PROCESS_BYTES = 300e6
"""One rank process with torch loaded, rounded up: 264 to 294 MB resident with the tiny model (torch 2.13, Linux)."""


def needed_bytes(scenario: Scenario) -> float:
    """All ranks together: each its process and as much as the fullest rank's ledger says."""
    return scenario.ranks * (PROCESS_BYTES + ledger(scenario, scenario.strategy.name).total)


def held_bytes(pid: int) -> float:
    """What a process holds, shared pages in proportion; nothing for one that has ended or may not be looked at."""
    try:
        held = psutil.Process(pid).memory_full_info()
    except psutil.Error:
        return 0.0
    return float(getattr(held, "pss", held.uss))  # proportional shares are known on Linux


def check_memory(scenario: Scenario, pids: Sequence[int] = ()) -> None:
    """Raises ScenarioError (field `model`) when the ranks would need more memory than is free.

    What ranks that run already (`pids`) hold of what they need is not needed again.
    """
    needed, free = needed_bytes(scenario), float(psutil.virtual_memory().available)
    if needed > free:  # asked only here: the system takes a moment to say it
        free += sum(min(held_bytes(pid), needed / scenario.ranks) for pid in pids)
    if needed > free:
        raise ScenarioError(
            "model",
            scenario.model.name,
            f"{scenario.ranks} CPU ranks need about {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free",
            "set model.layers lower, take fewer ranks or a smaller model, or --machine sim",
        )
