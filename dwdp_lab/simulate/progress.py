"""How far a rank is in its program: what every operation still waits for, and who waits for it."""

from __future__ import annotations

from dataclasses import dataclass, field

from dwdp_lab.program.operation import Op, awaited


@dataclass
class Progress:
    """One rank's progress: what every operation still waits for, and who waits for it."""

    rank: int
    ops: tuple[Op, ...]
    unmet: list[int] = field(default_factory=list)
    followers: list[list[int]] = field(default_factory=list)
    started_us: list[float] = field(default_factory=list)
    pulling: int = -1  # the pull that runs

    def prepare(self) -> list[int]:
        """Resolve events and lane order. Returns the operations that can start at once."""
        count = len(self.ops)
        self.unmet = [0] * count
        self.followers = [[] for _ in range(count)]
        self.started_us = [0.0] * count
        last_on_lane: dict[str, int] = {}
        for index, (op, needs) in enumerate(zip(self.ops, awaited(self.ops), strict=True)):
            before = last_on_lane.get(op.lane)
            last_on_lane[op.lane] = index
            sources = set(needs) if needs else set()
            if before is not None:
                sources.add(before)
            for source in sources:
                self.followers[source].append(index)
            self.unmet[index] = len(sources)
        return [index for index, unmet in enumerate(self.unmet) if unmet == 0]
