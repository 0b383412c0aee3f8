"""How large the mailboxes are through which GPU ranks meet by copy engine: two places for each rank that sends.

A place is large enough that starting a copy costs it little (on two H100s one copy of 16 MiB got 274 GB/s, one of 64
MiB 363), and small enough that the next one can be filled while one is read, and that sums stay in the GPU's cache.
"""

from __future__ import annotations

from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.strategy import StrategyName

MIB = 1 << 20
PLACES = 2
"""Of each sender: one travels while the one before is read."""
MOST_PLACE_BYTES = 32 * MIB
MOST_MAILBOX_BYTES = 256 * MIB
FLAG_BYTES = 64 << 10
"""At a mailbox's beginning: words that say what has arrived, and what has been read."""
UNIT = 256
"""Sizes of places, and where tensors begin in them, are multiples of this."""

MEETING: frozenset[StrategyName] = frozenset({"dep", "tensor", "pipeline", "weight_gather"})
"""Strategies whose ranks meet."""


def place_bytes(ranks: int) -> int:
    """Room for one piece of a message, of a group of two ranks or more."""
    share = MOST_MAILBOX_BYTES // (PLACES * (ranks - 1))
    return min(MOST_PLACE_BYTES, share // UNIT * UNIT)


def mailbox_bytes(scenario: Scenario, strategy: StrategyName) -> int:
    """What each GPU rank keeps, beside its ledger, for what others send it by copy engine.

    0 for strategies whose ranks never meet, and where the scenario has them meet over NCCL.
    """
    if strategy not in MEETING or scenario.ranks == 1 or scenario.strategy.collectives == "nccl":
        return 0
    return FLAG_BYTES + PLACES * (scenario.ranks - 1) * place_bytes(scenario.ranks)
