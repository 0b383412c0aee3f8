"""What crosses a rank's link for one layer, over the tokens: weights under DWDP, tokens under DEP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from dwdp_lab.timeline.palette import BLUE, VERMILLION
from dwdp_lab.view.charts.chart import Chart, Curve

TOKENS = tuple(1 << step for step in range(8, 20))
"""256 to 524,288."""


class Moved(NamedTuple):
    """Bytes of one layer that a rank pulls under DWDP, and moves for each of its tokens under DEP."""

    pulled_bytes: float
    bytes_per_token: float

    @property
    def even_tokens(self) -> float:
        """Tokens per rank for which both move the same."""
        return self.pulled_bytes / self.bytes_per_token


def moved_chart(models: Mapping[str, Moved]) -> Chart:
    """MB per layer and rank over tokens per rank, both strategies; the second model's lines are dashed."""
    curves = []
    for number, (name, moved) in enumerate(models.items()):
        x = tuple(map(float, sorted({*TOKENS, moved.even_tokens})))
        dep = tuple(moved.bytes_per_token * tokens / 1e6 for tokens in x)
        dwdp = (moved.pulled_bytes / 1e6,) * len(x)
        curves.append(Curve(f"{name}: DWDP, weights", x, dwdp, BLUE, dashed=number > 0, points=False))
        curves.append(Curve(f"{name}: DEP, tokens", x, dep, VERMILLION, dashed=number > 0, points=False))
    even = " and ".join(f"{moved.even_tokens:,.0f} tokens per rank ({name})" for name, moved in models.items())
    return Chart(
        title="What crosses a rank's link in one layer",
        x_title="tokens per rank",
        y_title="MB per layer",
        curves=tuple(curves),
        log_x=True,
        log_y=True,
        words=f"Both move the same at {even}. How long that takes, and what hides it, is another question.",
        notes=("counted",),
    )
