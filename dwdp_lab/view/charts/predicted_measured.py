"""Predicted step times over measured ones, for runs that were kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from dwdp_lab.measure.runs.predicted_runs import PredictedRun, errors_of
from dwdp_lab.measure.runs.recorded_runs import RunsFile
from dwdp_lab.timeline.palette import GREY, INK, STRATEGY_NAMES
from dwdp_lab.view.charts.chart import STRATEGY_COLOURS, Chart, Curve

OFF = 0.1
"""The dashed lines are this far off."""


def predicted_measured(compared: Sequence[tuple[RunsFile, Sequence[PredictedRun]]]) -> Chart:
    """Every run as a point, on logarithmic axes; on the line the prediction is exact."""
    rows = [row for _, some in compared for row in some]
    places: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        places[row.label.partition(":")[0]].append((row.run.figures.step_ms, row.predicted.step_ms))
    errors = errors_of(rows)
    low = min(min(point) for points in places.values() for point in points)
    high = max(max(point) for points in places.values() for point in points)
    lines = (
        ("exact", 1.0, INK),
        (f"{100 * OFF:.0f} % more", 1 + OFF, GREY),
        (f"{100 * OFF:.0f} % less", 1 - OFF, GREY),
    )
    curves = [
        Curve(name, (low, high), (low * factor, high * factor), colour, dashed=factor != 1.0, points=False)
        for name, factor, colour in lines
    ]
    for name, found in places.items():
        x, y = zip(*found, strict=True)
        colour = STRATEGY_COLOURS.get(name, INK)
        curves.append(Curve(STRATEGY_NAMES.get(name, name), tuple(x), tuple(y), colour, line=False))
    words = (
        f"{errors.runs} runs: predicted with a median error of {100 * errors.median:.1f} %, at worst "
        f"{100 * errors.worst:+z.1f} % ({errors.worst_at}); {errors.spread_words}."
    )
    if errors.signs:
        words += f" Where it tells, {errors.signs_right} of {errors.signs} are rightly faster or slower than DEP."
    return Chart(
        title="Predicted over measured: step time",
        x_title="measured step time (ms)",
        y_title="predicted step time (ms)",
        curves=tuple(curves),
        log_x=True,
        log_y=True,
        words=words,
        notes=tuple(dict.fromkeys(f"measured: {file.shown_provenance}" for file, _ in compared)),
    )
