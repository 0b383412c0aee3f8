"""What the knobs of a strategy come to."""

from __future__ import annotations

from typing import Any

import pytest

from dwdp_lab.scenario.strategy import Strategy


@pytest.mark.parametrize(
    ("knobs", "distance"),
    [
        ({"slots": 3}, 3),  # as far ahead as the slots allow
        ({"slots": 3, "prefetch_distance": 2}, 2),
        ({"slots": 3, "prefetch_distance": 3}, 3),
        ({"slots": 3, "prefetch_distance": 2, "overlap": False}, 0),
        ({"slots": 1, "overlap": False}, 0),
    ],
)
def test_prefetch_distance(knobs: dict[str, Any], distance: int) -> None:
    assert Strategy(**knobs).distance == distance
