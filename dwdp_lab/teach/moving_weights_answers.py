"""One right answer to each exercise of the lesson on moving weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dwdp_lab.program.placement import Placement


def fit_copy(sizes: list[int], times_us: list[float]) -> tuple[float, float]:
    # least squares of relative errors: each point weighs 1 / time^2, or the largest copies decide alone
    weights = [1 / time**2 for time in times_us]
    total = sum(weights)
    size = sum(w * s for w, s in zip(weights, sizes, strict=True)) / total
    time = sum(w * t for w, t in zip(weights, times_us, strict=True)) / total
    points = list(zip(weights, sizes, times_us, strict=True))
    slope = sum(w * (s - size) * (t - time) for w, s, t in points) / sum(w * (s - size) ** 2 for w, s, _ in points)
    return time - slope * size, 1e-3 / slope  # a byte per microsecond is 0.001 GB/s


def windows(experts: int, ranks: int, local: int) -> list[range]:
    spare = experts - local  # the last window begins here, the others evenly before it
    starts = [rank * spare // max(1, ranks - 1) for rank in range(ranks)]
    return [range(start, start + local) for start in starts]


def shares(windows: list[range], rank: int) -> dict[int, list[int]]:
    given: dict[int, list[int]] = {}
    for peer, window in enumerate(windows):
        if peer < rank:  # the head of a lower peer's window, up to where the next one begins
            given[peer] = list(range(window.start, windows[peer + 1].start))
        elif peer > rank:  # the tail of a higher peer's, beyond the one before
            given[peer] = list(range(windows[peer - 1].stop, window.stop))
    return given


def pull_slices(
    where: Placement, rank: int, sizes: list[tuple[str, int]], slice_bytes: int
) -> list[tuple[int, int, int, int]]:
    own, slices = where.local(rank), []
    source = target = 0  # where this parameter begins in a shard and in the slot
    for _, size in sizes:
        for peer, experts in where.pulled(rank):
            first = experts.start  # consecutive experts lie side by side, here and there: one piece
            begin = source + (first - where.local(peer).start) * size
            place = target + (first if first < own.start else first - len(own)) * size
            for done in range(0, len(experts) * size, slice_bytes):
                nbytes = min(slice_bytes, len(experts) * size - done)
                slices.append((peer, begin + done, place + done, nbytes))
        source += where.local_experts * size
        target += (where.experts - where.local_experts) * size
    return slices
