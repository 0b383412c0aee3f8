"""Several ranks read one source at once: what they get together and each, and how evenly."""

from __future__ import annotations

from statistics import median
from typing import Any

from dwdp_lab.measure.transfers.contention_levels import fairness
from dwdp_lab.measure.transfers.transfers import Sample
from dwdp_lab.measure.transfers.transfers_measured import Key, Measured, gbps, spread


def source_readers(measured: Measured, key: Key, share: int) -> dict[str, Any]:
    """A case in which each reader copies `share` bytes, as plain values."""
    turns, together = measured.turns(key), spread(measured.together_us(key))
    ranks = sorted(turns[0])
    return {
        "readers": len(ranks),
        **together._asdict(),
        "gbps": gbps(len(ranks) * share, together.median_us),
        "gbps_each": [gbps(share, median([turn[rank].took_us for turn in turns])) for rank in ranks],
        "fairness": median([rate_fairness(turn) for turn in turns]),
    }


def rate_fairness(turn: dict[int, Sample]) -> float:
    """Jain's index of the rates of one turn, in which all copy the same number of bytes."""
    return fairness([1 / sample.took_us for sample in turn.values()])
