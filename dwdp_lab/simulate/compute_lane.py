"""Compute beside copies: the pieces of an operation run one after another, slower while the rank's links are busy."""

from __future__ import annotations

from collections import defaultdict

from dwdp_lab.program.operation import Unit
from dwdp_lab.simulate.cost import Piece


class ComputeLane:
    """What one rank computes right now. `traffic` is the load of its links, 0 (none) to 1 (full, in and out).

    A piece that takes `slowdown` times longer beside full traffic takes 1 + (slowdown - 1) * traffic times longer
    beside some. Ends that `begin`, `set_traffic` and `piece_ended` return count until the next call returns another;
    `version` tells them apart.
    """

    __slots__ = ("_factor", "_left_us", "_pieces", "_place", "_since_us", "index", "traffic", "unit_us", "version")

    def __init__(self) -> None:
        self.index = -1  # the operation that runs; -1: none
        self.version = 0
        self.traffic = 0.0
        self.unit_us: dict[Unit, float] = defaultdict(float)
        self._pieces: tuple[Piece, ...] = ()
        self._place = 0
        self._left_us = 0.0  # of the current piece, as if alone
        self._factor = 1.0
        self._since_us = 0.0

    def begin(self, index: int, pieces: tuple[Piece, ...], now_us: float) -> float:
        """Start an operation. Returns when its first piece ends (now, when it has none)."""
        self.index = index
        self._pieces = pieces
        self._place = 0
        return self._start_piece(now_us)

    def set_traffic(self, traffic: float, now_us: float) -> float | None:
        """The links' load changes. Returns the new end of the current piece, None when nothing runs or changes."""
        if traffic == self.traffic:
            return None
        self.traffic = traffic
        if self.index < 0 or not self._pieces:
            return None
        self._progress(now_us)
        return self._end(now_us)

    def piece_ended(self, now_us: float) -> float | None:
        """The current piece has ended. Returns when the next one ends, None when the operation is done."""
        if self._pieces:
            self._progress(now_us)
        self._place += 1
        if self._place < len(self._pieces):
            return self._start_piece(now_us)
        self.index = -1
        return None

    def _start_piece(self, now_us: float) -> float:
        self._left_us = self._pieces[self._place].alone_us if self._pieces else 0.0
        self._since_us = now_us
        return self._end(now_us)

    def _progress(self, now_us: float) -> None:
        took = now_us - self._since_us
        self.unit_us[self._pieces[self._place].unit] += took
        self._left_us = max(0.0, self._left_us - took / self._factor)
        self._since_us = now_us

    def _end(self, now_us: float) -> float:
        slowdown = self._pieces[self._place].slowdown if self._pieces else 1.0
        self._factor = 1.0 + (slowdown - 1.0) * self.traffic
        self.version += 1
        return now_us + self._left_us * self._factor
