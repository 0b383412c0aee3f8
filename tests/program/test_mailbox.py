"""How large mailboxes are, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from dwdp_lab.program.mailbox import FLAG_BYTES, MIB, UNIT, mailbox_bytes, place_bytes
from dwdp_lab.scenario.scenario import Scenario


@pytest.mark.parametrize(
    ("ranks", "nbytes"),
    [
        (2, 32 * MIB),
        (5, 32 * MIB),
        (6, 256 * MIB // 10 // 256 * 256),
        (9, 16 * MIB),
        (72, 256 * MIB // 142 // 256 * 256),
    ],
)
def test_places_are_of_32_mib_until_all_would_take_256(ranks: int, nbytes: int) -> None:
    assert place_bytes(ranks) == nbytes
    assert nbytes % UNIT == 0


@pytest.mark.parametrize(
    ("strategy", "changes", "nbytes"),
    [
        ("dep", {}, FLAG_BYTES + 2 * 3 * 32 * MIB),
        ("tensor", {}, FLAG_BYTES + 2 * 3 * 32 * MIB),
        ("pipeline", {"strategy.collectives": "copy"}, FLAG_BYTES + 2 * 3 * 32 * MIB),
        ("weight_gather", {}, FLAG_BYTES + 2 * 3 * 32 * MIB),
        ("dep", {"strategy.collectives": "nccl"}, 0),
        ("dep", {"group.ranks": 1}, 0),
        ("dwdp", {}, 0),
        ("replicated", {}, 0),
    ],
)
def test_who_meets_by_copies_has_two_places_for_each_other(strategy: Any, changes: dict[str, Any], nbytes: int) -> None:
    scenario = Scenario.create(group={"ranks": 4}).replace(**changes)
    assert mailbox_bytes(scenario, strategy) == nbytes
