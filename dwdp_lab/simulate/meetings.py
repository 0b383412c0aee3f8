"""Where operations of several ranks meet: who has come to a collective or a message, and when all have."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from typing import NamedTuple

from dwdp_lab.program.operation import COLLECTIVES, Op
from dwdp_lab.simulate.progress import Progress


class Arrival(NamedTuple):
    """An operation that has come to a meeting: the place of its rank among the programs, its index there, and when."""

    place: int
    operation: int
    at_us: float


class Meetings:
    """Meetings of one run. A collective is met by all ranks, a message by its two ends in the order they come."""

    def __init__(self, ranks: Sequence[Progress]) -> None:
        self._ranks = ranks
        self._place_of = {rank.rank: place for place, rank in enumerate(ranks)}
        self._collectives: dict[tuple[str, int, int], list[Arrival]] = {}
        self._messages: dict[tuple[int, int], deque[Arrival]] = defaultdict(deque)  # by (sender, receiver)

    def come(self, arrival: Arrival, op: Op) -> Sequence[Arrival]:
        """Whom the last to come completes a meeting with, itself last; nobody as long as someone is missing."""
        return self._collective(arrival, op) if op.kind in COLLECTIVES else self._message(arrival, op)

    def _collective(self, arrival: Arrival, op: Op) -> Sequence[Arrival]:
        key = (op.kind, op.step, op.layer)
        here = self._collectives.setdefault(key, [])
        here.append(arrival)
        return self._collectives.pop(key) if len(here) == len(self._ranks) else ()

    def _message(self, arrival: Arrival, op: Op) -> Sequence[Arrival]:
        other = self._place_of.get(-1 if op.peer is None else op.peer, -1)  # nobody there: it waits for ever
        waiting = self._messages[(arrival.place, other) if op.kind == "send" else (other, arrival.place)]
        if waiting and waiting[0].place != arrival.place:
            return waiting.popleft(), arrival
        waiting.append(arrival)
        return ()
