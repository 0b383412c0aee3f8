"""One right answer to each exercise of the lesson on contention."""

from __future__ import annotations


def peer_order(rank: int, ranks: int) -> list[int]:
    return [(rank + shift) % ranks for shift in range(1, ranks)]


def level_probability(ranks: int, level: int) -> float:
    from math import comb

    others = ranks - 2  # who else may read my source: not I, and not the source itself
    share = 1 / (ranks - 1)  # each of them has so many peers to choose from
    return comb(others, level - 1) * share ** (level - 1) * (1 - share) ** (others - level + 1)


def wave_peer(rank: int, ranks: int, wave: int) -> int:
    from random import Random

    round_number, place = divmod(wave, ranks - 1)
    shifts = list(range(1, ranks))
    Random(f"round {round_number}").shuffle(shifts)  # the seed has no rank in it: all ranks draw the same shifts
    return (rank + shifts[place]) % ranks


def smallest_slice(link_gbps: float, copy_us: float, most: float) -> int:
    nbytes = 64 * 1024
    while copy_us > most * nbytes / (link_gbps * 1e3):  # 1e9 bytes/s are 1e3 bytes per microsecond
        nbytes *= 2
    return nbytes
