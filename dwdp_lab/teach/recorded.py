"""Figures that were measured once, on machines a learner may not have (data/measured/): `recorded`, never live."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from dwdp_lab.scenario.errors import ScenarioError, nearest
from dwdp_lab.scenario.shipped import shipped
from dwdp_lab.timeline.words import wrapped

COPIES = "h100-pair-copies"
"""Copies between and within two H100s."""


@lru_cache
def recorded(name: str) -> dict[str, Any]:
    """One file of data/measured/ as it is. Raises ScenarioError for a name that is unknown."""
    known = shipped("measured", ".json")
    if name not in known:
        raise ScenarioError("recorded", name, f"known are {', '.join(known)}", nearest(name, known))
    fields: dict[str, Any] = json.loads(known[name].read_text(encoding="utf-8"))
    return fields


def provenance_of(name: str) -> str:
    """Device, versions, date and who measured."""
    fields = recorded(name)
    versions = ", ".join(f"{library} {version}" for library, version in fields["versions"].items())
    return wrapped(
        f"recorded {fields['date']} on {fields['device']} (driver {fields['driver']}, {versions}); {fields['source']}"
    )


def copy_times_us() -> tuple[list[int], list[float]]:
    """Sizes in bytes and times in microseconds of one copy between the two H100s."""
    one = recorded(COPIES)["one_copy"]
    return list(one["bytes"]), [size / gbps / 1e3 for size, gbps in zip(one["bytes"], one["gbps"], strict=True)]
