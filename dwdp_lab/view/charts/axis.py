"""An axis: from numbers to pixels, and the ticks that stand beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """`low` to `high` on `start` to `end` pixels."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        """Pixels of a value; on a logarithmic axis what is not above zero lies at the low end."""
        if self.log:
            share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[tuple[float, str]]:
        """Round values within the axis, and how they are written."""
        values = self._decades() if self.log else self._steps()
        return [(value, _written(value)) for value in values]

    def _steps(self) -> list[float]:
        span = self.high - self.low
        power = 10.0 ** math.floor(math.log10(span / 6))
        step = next(power * factor for factor in (1, 2, 2.5, 5, 10, 20) if span / (power * factor) <= 6)
        first = math.ceil(self.low / step - 1e-9)
        return [count * step for count in range(first, math.floor(self.high / step + 1e-9) + 1)]

    def _decades(self) -> list[float]:
        low, high = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        for factors in ((1,), (1, 3), (1, 2, 5)):
            values = [10.0**power * factor for power in range(low, high + 1) for factor in factors]
            inside = [value for value in values if self.low * 0.999 <= value <= self.high * 1.001]
            if len(inside) >= 4:
                return inside[:: math.ceil(len(inside) / 9)]
        return self._steps()


def axis(values: Iterable[float], start: float, end: float, log: bool = False, from_zero: bool = True) -> Axis:
    """An axis that shows all values, with some room; a linear one begins at zero unless told otherwise."""
    known = [value for value in values if math.isfinite(value) and (value > 0 or not log)]
    low, high = min(known, default=1.0), max(known, default=1.0)
    if log:
        room = max(1.15, (high / low) ** 0.05)
        return Axis(low / room, high * room, start, end, True)
    if from_zero:
        low = min(0.0, low)
    room = (high - low) * 0.06 or abs(high) or 1.0
    return Axis(low if from_zero and low == 0 else low - room, high + room, start, end)


def _written(value: float) -> str:
    """With `k`, `M` or `G` where that leaves a short round number.

    >>> [_written(value) for value in (0.5, 10_000, 250_000, 2_500_000, 1e9, 300e9)]
    ['0.5', '10k', '250k', '2.5M', '1G', '300G']
    """
    if value and abs(value) >= 10_000 and value == round(value, -3):
        power = min(3, int(math.log10(abs(value)) + 1e-9) // 3)
        return f"{value / 10 ** (3 * power):,.6g}{'kMG'[power - 1]}"
    return f"{value:,.9g}"
