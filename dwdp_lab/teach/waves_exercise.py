"""Permutation waves: the exercise, and whom a late rank meets."""

from __future__ import annotations

from collections import Counter
from typing import Any

from dwdp_lab.teach import contention_answers as answers
from dwdp_lab.teach.agrees import whole
from dwdp_lab.teach.attempt import attempt, shown
from dwdp_lab.teach.exercise import Exercise, Property, Target
from dwdp_lab.teach.shown import Shown, table

ROUNDS = 40
LATE = (1, 2, 3)


def _peer(answer: Any, rank: int, ranks: int, wave: int) -> int | str:
    called = attempt(answer, (rank, ranks, wave))
    where = f"wave_peer({rank}, {ranks}, {wave})"
    if called.error:
        return f"{where} {called.error}"
    peer = whole(called.value)
    if peer is None:
        return f"{where} gives {shown(called.value)}, which is no rank: a rank is an int."
    if peer == rank or not 0 <= peer < ranks:
        return f"{where} gives {peer}, which is no peer of rank {rank} of {ranks}."
    return peer


def _waves(answer: Any, ranks: int, waves: int) -> list[list[int]] | str:
    """For each wave the peer of each rank, or what is wrong with the first that is none."""
    found = []
    for wave in range(waves):
        peers = [_peer(answer, rank, ranks, wave) for rank in range(ranks)]
        for peer in peers:
            if isinstance(peer, str):
                return peer
        found.append([peer for peer in peers if not isinstance(peer, str)])
    return found


def _names_a_peer(answer: Any) -> str | None:
    for ranks in (2, 3, 5):
        waves = _waves(answer, ranks, 4 * ranks)
        if isinstance(waves, str):
            return waves
    return None


def _same_again(answer: Any) -> str | None:
    for ranks in (2, 3, 5):
        first, again = _waves(answer, ranks, 4 * ranks), _waves(answer, ranks, 4 * ranks)
        if isinstance(first, str) or isinstance(again, str):
            return first if isinstance(first, str) else str(again)
        for wave, (one, other) in enumerate(zip(first, again, strict=True)):
            if one != other:
                return (
                    f"{ranks} ranks, wave {wave}: the peers are {one} when asked, and {other} when asked again. Ranks "
                    "cannot agree on what changes."
                )
    return None


def _every_peer_once(answer: Any) -> str | None:
    for ranks in range(2, 9):
        waves = _waves(answer, ranks, 4 * (ranks - 1))
        if isinstance(waves, str):
            return waves
        for start in range(0, len(waves), ranks - 1):
            for rank in range(ranks):
                peers = [wave[rank] for wave in waves[start : start + ranks - 1]]
                if len(set(peers)) < len(peers):
                    last = start + ranks - 2
                    return f"{ranks} ranks: in waves {start} to {last} rank {rank} reads from {peers}."
    return None


def _nobody_meets(answer: Any) -> str | None:
    for ranks in range(2, 9):
        waves = _waves(answer, ranks, 4 * (ranks - 1))
        if isinstance(waves, str):
            return waves
        for number, wave in enumerate(waves):
            for rank, source in enumerate(wave):
                if source in wave[:rank]:
                    other = wave.index(source)
                    return f"{ranks} ranks, wave {number}: ranks {other} and {rank} both read from rank {source}."
    return None


def meetings(answer: Any, ranks: int, late: int, rounds: int = ROUNDS) -> Counter[int]:
    """In how many waves each other rank reads from the same source as rank 0, which is `late` waves behind."""
    count: Counter[int] = Counter()
    for wave in range(late, rounds * (ranks - 1)):
        source = answer(0, ranks, wave - late)
        count.update(rank for rank in range(1, ranks) if answer(rank, ranks, wave) == source)
    return count


def worst_share_pct(answer: Any, ranks: int = 8) -> float:
    """Share of the waves, in %, in which a late rank meets the rank that it meets most."""
    shares = [
        100 * max(meetings(answer, ranks, late).values(), default=0) / (ROUNDS * (ranks - 1) - late) for late in LATE
    ]
    return max(shares)


def _show(answer: Any) -> Shown:
    ranks = 4
    waves = _waves(answer, ranks, 4 * (ranks - 1))
    if isinstance(waves, str):
        return Shown(waves)
    rows = [(f"rank {rank}", *(str(wave[rank]) for wave in waves)) for rank in range(ranks)]
    header = ("wave", *map(str, range(len(waves))))
    count = meetings(answer, ranks, 1)
    met = ", ".join(f"rank {rank} in {count[rank]}" for rank in range(1, ranks))
    many = ROUNDS * (ranks - 1) - 1
    late = f"If rank 0 is one wave late, it shares its source, of {many} waves: with {met}."
    return Shown(table(header, rows) + "\n" + late)


WAVE_PEER = Exercise(
    key="contention.wave_peer",
    number="7.3",
    title="permutation waves",
    difficulty=3,
    minutes=15,
    name="wave_peer",
    spec="""\
Now ranks copy slices. In *wave* 0, 1, 2, ... every rank copies one slice from one peer. Write
`wave_peer(rank, ranks, wave)`: from whom. In each wave no two ranks read from one source. Waves 0 to N - 2 are a
*round*, the next N - 1 another, and so on; in each round each rank reads from every peer once. There is no
communication: each rank works it out for itself.

That is *correct*, and your `peer_order` in a circle does it. It is *good* when a rank that is late does not meet the
same other rank again and again: of 8 ranks, one being 1, 2 or 3 waves late, the rank it meets most should share its
source in at most 30 % of the waves.""",
    stub='''\
def wave_peer(rank: int, ranks: int, wave: int) -> int:
    """The rank from which `rank` copies its slice in this wave."""''',
    hints=(
        "Begin with (rank + 1 + wave % (ranks - 1)) % ranks. It is correct. Look at what show says of a late rank: who "
        "is hit, and how often?",
        "In every wave all ranks use one shift. What if the shifts of each round come in another order, the same order "
        "for all ranks?",
        "random.Random(seed).shuffle(shifts) is the same on every rank if the seed is: take the number of the round, "
        "wave // (ranks - 1), and no rank.",
    ),
    reference=answers.wave_peer,
    view=_show,
    example=lambda: (0, 2, 0),
    properties=(
        Property("it names a peer, in every wave", _names_a_peer),
        Property("the same question has the same answer", _same_again),
        Property("no two ranks read from one source in a wave", _nobody_meets),
        Property("every peer once in a round", _every_peer_once),
    ),
    targets=(Target("waves in which it meets the same rank", worst_share_pct, lambda: 30.0, "%"),),
)
