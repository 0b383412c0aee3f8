"""How long each step of a run takes, over the time since it began: where a GPU's clock falls, steps grow longer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

from dwdp_lab.timeline.palette import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, SKY, VERMILLION, YELLOW
from dwdp_lab.view.charts.chart import Chart, Curve

COLOURS = (GREY, VERMILLION, BLUE, SKY, GREEN, ORANGE, PURPLE, INK, YELLOW)


def step_times(runs: Mapping[str, Sequence[float]], notes: tuple[str, ...] = ()) -> Chart:
    """A line for each run: its steps in milliseconds, each at the moment of its end.

    Raises ValueError for more runs than there are colours, and for a run that kept no steps.
    """
    if len(runs) > len(COLOURS):
        raise ValueError(f"{len(runs)} runs: a chart has colours for {len(COLOURS)}")
    for label, steps in runs.items():
        if not steps:
            raise ValueError(f"{label}: the run kept no times of single steps")
    return Chart(
        title="How long each step takes",
        x_title="time since the run began (s)",
        y_title="step (ms)",
        curves=tuple(
            Curve(label, tuple(ms / 1e3 for ms in accumulate(steps)), tuple(steps), colour, points=False)
            for (label, steps), colour in zip(runs.items(), COLOURS, strict=False)
        ),
        log_y=True,  # the same distance is the same ratio
        words="Each step at the moment of its end; the same distance upwards is the same ratio.",
        notes=notes,
    )
