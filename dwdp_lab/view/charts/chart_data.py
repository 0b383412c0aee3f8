"""What a chart shows, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field

from dwdp_lab.timeline.palette import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, VERMILLION

STRATEGY_COLOURS = {
    "dwdp": BLUE,
    "dep": VERMILLION,
    "weight_gather": PURPLE,
    "replicated": GREY,
    "tensor": GREEN,
    "pipeline": ORANGE,
}


@dataclass(frozen=True)
class Curve:
    """A line through points; `line` off shows the points alone, `labels` write a word beside each."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    colour: str = INK
    dashed: bool = False
    line: bool = True
    points: bool = True
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bars:
    """One value per category."""

    label: str
    values: tuple[float, ...]
    colour: str


@dataclass(frozen=True)
class ChartData:
    """Curves over numbers, or bars over categories. Titles of axes carry their unit.

    `words` say what the chart shows, `notes` what it is worth. `limits` are horizontal lines with their names.
    """

    title: str
    x_title: str
    y_title: str
    curves: tuple[Curve, ...] = ()
    bars: tuple[Bars, ...] = ()
    categories: tuple[str, ...] = ()
    stacked: bool = False
    limits: tuple[tuple[str, float], ...] = ()
    log_x: bool = False
    log_y: bool = False
    words: str = ""
    notes: tuple[str, ...] = field(default=())
