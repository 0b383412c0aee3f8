"""One layer whose experts are as large as one asks: what ranks pull when pulls themselves are measured."""

from __future__ import annotations

from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario

HIDDEN = 1024
BYTES_PER_COLUMN = 3 * HIDDEN * 2  # gate, up and down projection in bf16


def pulled_layer(ranks: int, share_bytes: int) -> Scenario:
    """DWDP on `ranks` with one expert per rank of about `share_bytes` (a multiple of 6 KiB), which all others pull.

    Raises ScenarioError for a share that is too small or a group of fewer than two ranks.
    """
    if ranks < 2:
        raise ScenarioError("--ranks", ranks, "must be at least 2: one rank pulls nothing")
    if share_bytes < BYTES_PER_COLUMN:
        raise ScenarioError("--share", share_bytes, f"must be at least {BYTES_PER_COLUMN} bytes")
    return Scenario.create(
        model={
            "preset": "tiny",
            "name": "one expert per rank",
            "layers": 1,
            "hidden": HIDDEN,
            "experts": ranks,
            "top_k": 1,
            "expert_intermediate": share_bytes // BYTES_PER_COLUMN,
            "expert_dtype": "bf16",
            "dtype": "bf16",
        },
        group={"ranks": ranks},
        strategy={"name": "dwdp"},
    )
