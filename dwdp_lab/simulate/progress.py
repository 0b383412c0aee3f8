"""How far a rank is in its program: what every operation still waits for, and who waits for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from dwdp_lab.program.operation import Op, awaited


class Order(NamedTuple):
    """What a program's events and lanes make of its operations, which stand for their places in it: for how many others
    each waits, who waits for it, and which wait for nothing."""

    waits: tuple[int, ...]
    followers: tuple[tuple[int, ...], ...]
    first: tuple[int, ...]


def order_of(ops: tuple[Op, ...]) -> Order:
    """Resolve events and lane order. Raises LookupError for a wait that nothing before it signals."""
    followers: list[list[int]] = [[] for _ in ops]
    waits = []
    last_on_lane: dict[str, int] = {}
    for index, (op, needs) in enumerate(zip(ops, awaited(ops), strict=True)):
        before = last_on_lane.get(op.lane)
        last_on_lane[op.lane] = index
        sources = set(needs) if needs else set()
        if before is not None:
            sources.add(before)
        for source in sources:
            followers[source].append(index)
        waits.append(len(sources))
    first = [index for index, count in enumerate(waits) if not count]
    return Order(tuple(waits), tuple([tuple(each) for each in followers]), tuple(first))


Shape = tuple[tuple[str, tuple[str, ...], str | None], ...]
"""Lane, waits and signal of every operation: what the order follows from."""


@dataclass
class Progress:
    """One rank's progress: for how many others every operation still waits, and who waits for it."""

    rank: int
    ops: tuple[Op, ...]
    unmet: list[int] = field(default_factory=list)
    followers: tuple[tuple[int, ...], ...] = ()
    started_us: list[float] = field(default_factory=list)
    pulling: int = -1  # the pull that runs

    def prepare(self, known: dict[Shape, Order] | None = None) -> tuple[int, ...]:
        """Get ready to start. Returns the operations that can start at once.

        `known` are orders of other ranks: most ranks have programs of one shape. Raises LookupError as `order_of` does.
        """
        known = {} if known is None else known
        shape = tuple([(op.lane, op.waits, op.signals) for op in self.ops])
        order = known.get(shape)
        if order is None:
            order = known[shape] = order_of(self.ops)
        self.unmet = list(order.waits)
        self.followers = order.followers
        self.started_us = [0.0] * len(self.ops)
        return order.first
