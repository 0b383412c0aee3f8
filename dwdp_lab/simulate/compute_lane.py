"""Compute beside copies: the pieces of an operation run one after another, slower while transfers disturb the rank.

A piece that takes `slowdown` times longer beside a pull goes on at 1 - (1 - 1 / slowdown) d of its speed while the
disturbance is d (see links.py).
"""

from __future__ import annotations

from collections import defaultdict

from dwdp_lab.program.operation import Unit
from dwdp_lab.simulate.cost import Piece

ROUNDING = 1e-9
"""A piece with less than this share of it, or of the time so far, left has ended."""


class ComputeLane:
    """What one rank computes right now.

    The end of a piece is foreseen from how much the rank is disturbed at that moment. If that changes in between, the
    rest is foreseen again, and a piece that was let run too long leaves its surplus to the next. `version` tells which
    of the ends that `begin`, `reconsider` and `goes_on` return still counts: the last.
    """

    __slots__ = ("_disturbed_us", "_left_us", "_lost", "_pieces", "_place", "_since_us", "index", "unit_us", "version")

    def __init__(self) -> None:
        self.index = -1  # the operation that runs; -1: none
        self.version = 0
        self.unit_us: dict[Unit, float] = defaultdict(float)
        self._pieces: tuple[Piece, ...] = ()
        self._place = 0
        self._left_us = 0.0  # of the current piece, as if alone; below 0: surplus
        self._lost = 0.0  # the share of its speed that it loses to a full disturbance
        self._since_us = 0.0
        self._disturbed_us = 0.0

    def begin(
        self, index: int, pieces: tuple[Piece, ...], now_us: float, disturbed_us: float, disturbance: float
    ) -> float:
        """Start an operation; transfers have disturbed the rank for `disturbed_us` so far. Returns its first end."""
        self.index = index
        self._pieces = pieces
        self._place = 0
        self._since_us, self._disturbed_us = now_us, disturbed_us
        if pieces:
            self._take(pieces[0])
        return self._end(now_us, disturbance)

    def reconsider(self, now_us: float, disturbed_us: float, disturbance: float) -> float | None:
        """The disturbance may have changed. Returns the new end of the piece, None when nothing runs."""
        if self.index < 0 or not self._pieces:
            return None
        self._progress(self._pieces[self._place], now_us, disturbed_us)
        return self._end(now_us, disturbance)

    def goes_on(self, now_us: float, disturbed_us: float, disturbance: float) -> float | None:
        """The current piece may have ended. Returns when it, or the next one, may; None when the operation is done.

        Most of what a simulation does, so the steps are written out rather than called.
        """
        pieces, unit_us = self._pieces, self.unit_us
        if not pieces:
            self.index = -1
            return None
        unit, alone_us, _ = pieces[self._place]
        took = now_us - self._since_us
        left_us = self._left_us - (took - self._lost * (disturbed_us - self._disturbed_us))
        self._since_us, self._disturbed_us = now_us, disturbed_us
        unit_us[unit] += took
        if left_us <= ROUNDING * (alone_us + now_us):
            unit_us[unit] += left_us  # the surplus is not its time, but the next one's
            self._place = place = self._place + 1
            if place == len(pieces):
                self._left_us = left_us
                self.index = -1
                return None
            unit, alone_us, slowdown = pieces[place]
            unit_us[unit] -= left_us
            left_us += alone_us
            self._lost = 1.0 - 1.0 / slowdown
        self._left_us = left_us
        self.version += 1
        return now_us if left_us <= 0.0 else now_us + left_us / (1.0 - self._lost * disturbance)

    def _take(self, piece: Piece) -> None:
        """Begin a piece, with what was left too much or too little of the one before."""
        unit, alone_us, slowdown = piece
        self.unit_us[unit] -= self._left_us
        self._left_us += alone_us
        self._lost = 1.0 - 1.0 / slowdown

    def _progress(self, piece: Piece, now_us: float, disturbed_us: float) -> None:
        took = now_us - self._since_us
        self.unit_us[piece.unit] += took
        self._left_us -= took - self._lost * (disturbed_us - self._disturbed_us)
        self._since_us, self._disturbed_us = now_us, disturbed_us

    def _end(self, now_us: float, disturbance: float) -> float:
        self.version += 1
        if self._left_us <= 0.0 or not self._pieces:
            return now_us
        return now_us + self._left_us / (1.0 - self._lost * disturbance)
