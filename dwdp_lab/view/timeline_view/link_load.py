"""How busy the links are over time: GB/s that copies and collectives move, mean over ranks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dwdp_lab.timeline.segments import COPY_KINDS, TOKEN_KINDS
from dwdp_lab.timeline.span import Timeline

Numbers = NDArray[np.float64]
MOST_POINTS = 2000


class LinkLoad(NamedTuple):
    """`gbps[i]` (1e9 bytes/s per rank, mean over ranks) from `time_us[i]` to `time_us[i + 1]`, 0 after the last."""

    time_us: Numbers
    gbps: Numbers


def link_load(timeline: Timeline, most_points: int = MOST_POINTS) -> LinkLoad:
    """The load of a run. Each span counts at its mean speed; above `most_points`, means over equal intervals."""
    moving = [
        (span.start_us, span.end_us, span.nbytes)
        for span in timeline.spans
        if span.nbytes and span.end_us > span.start_us and (span.kind in COPY_KINDS or span.kind in TOKEN_KINDS)
    ]
    if not moving:
        return LinkLoad(np.zeros(1), np.zeros(1))
    start, end, nbytes = np.array(moving).T
    speed = nbytes / (end - start) / 1e3 / max(1, timeline.ranks)
    times, places = np.unique(np.concatenate([start, end]), return_inverse=True)
    change = np.zeros(len(times))
    np.add.at(change, places, np.concatenate([speed, -speed]))
    gbps = np.maximum(0.0, np.cumsum(change))
    gbps[-1] = 0.0  # what rounding left
    if len(times) <= most_points:
        return LinkLoad(times, gbps)
    moved = np.concatenate([[0.0], np.cumsum(gbps[:-1] * np.diff(times))])
    edges = np.linspace(times[0], times[-1], most_points)
    means = np.diff(np.interp(edges, times, moved)) / np.diff(edges)
    return LinkLoad(edges, np.append(means, 0.0))
