"""Where DWDP overtook the best DEP in runs that were kept, and where the simulator says that it should have."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from dwdp_lab.measure.runs.over_dep import over_best_dep
from dwdp_lab.measure.runs.predicted_runs import PredictedRun, predict_runs
from dwdp_lab.measure.runs.recorded_runs import RunsFile
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.timeline.palette import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, SKY, VERMILLION, YELLOW
from dwdp_lab.view.charts.chart import Chart, Curve
from dwdp_lab.view.charts.sweeps import crossing_point

COLOURS = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY, INK, GREY, YELLOW)
"""As many as the grid of `bench all` has lines at most: three variants at three CVs."""

CLOSE = 2
"""Up to this ratio of their tokens a crossing between two points is interpolated: gains bend as pulls become hidden."""


class Series(NamedTuple):
    """Runs that differ in their tokens per rank alone."""

    label: str
    cv: float
    link_gbps: float | str | None


def measured_crossover(file: RunsFile) -> Chart:
    """DWDP's tokens/s over the best DEP's, over tokens per rank, a line for each CV (and variant, and link, where there
    are several); dashed what the simulator predicts on the profile that the machine was calibrated to.

    Raises ScenarioError for a file in which no DWDP ran beside a DEP.
    """
    ran = file.provenance == "measured"
    predicted = predict_runs(file) if ran and file.hardware is not None else ()
    series = _series(file, predicted)
    if not series:
        raise ScenarioError("runs", file.title, "needs runs of dwdp and of dep with the same tokens and CV")
    curves, words = [], []
    names = _names(list(series))
    for number, (which, points) in enumerate(series.items()):
        tokens, gains, simulated = zip(*sorted(points), strict=True)
        colour = COLOURS[number % len(COLOURS)]
        curves.append(Curve(names[which], tokens, gains, colour))
        crossings = [_crossing(tokens, gains)]
        if predicted:
            curves.append(Curve(f"{names[which]}, predicted", tokens, simulated, colour, dashed=True, points=False))
            crossings.append(f"predicted: {_crossing(tokens, simulated)}")
        words.append(f"{names[which]}: {', '.join(crossings)}")
    return Chart(
        title="DWDP over the best DEP: tokens/s per rank",
        x_title="mean new tokens per rank and step (tokens)",
        y_title="DWDP's tokens/s over the best DEP's (times)",
        curves=tuple(curves),
        limits=(("as fast as DEP", 1.0),),
        log_x=True,
        words=f"Below 1 DEP is faster. DWDP overtakes it: {'; '.join(words)}.",
        notes=(file.shown_provenance if ran else f"simulated: {file.device}",),
    )


def _series(file: RunsFile, predicted: Sequence[PredictedRun]) -> dict[Series, list[tuple[float, float, float | None]]]:
    """(tokens, measured, predicted) of every DWDP run that has a DEP beside it."""
    simulated = [row.predicted_over_dep for row in predicted] or [None] * len(file.runs)
    found: dict[Series, list[tuple[float, float, float | None]]] = defaultdict(list)
    for ratio, model in zip(over_best_dep(file.runs), simulated, strict=True):
        workload = ratio.run.scenario["workload"]
        if ratio.run.scenario["strategy"]["name"] == "dwdp" and ratio.over_dep is not None:
            which = Series(ratio.label, workload["cv"], ratio.run.scenario["link_gbps"])
            found[which].append((float(workload["tokens_per_rank"]), ratio.over_dep, model))
    return dict(found)


def _names(series: Sequence[Series]) -> dict[Series, str]:
    """What tells a line from the others."""
    varies = [len({one[place] for one in series}) > 1 for place in range(3)]
    shared = set.intersection(*(set(one.label.split(":")[1:]) for one in series))

    def name(one: Series) -> str:
        parts = [f"CV {one.cv:g}"]
        if varies[0]:
            knobs = [knob for knob in one.label.split(":")[1:] if knob not in shared]
            parts.insert(0, " ".join(["DWDP", *knobs]))
        if varies[2]:
            parts.append("link as it is" if one.link_gbps is None else f"{one.link_gbps} GB/s")
        return ", ".join(parts)

    return {one: name(one) for one in series}


def _crossing(tokens: Sequence[float], gains: Sequence[float]) -> str:
    """From how many tokens on; the two neighbours alone where they are too far apart to draw a line between them."""
    crossing = crossing_point(tokens, gains)
    if crossing is not None:
        below, above = max(x for x in tokens if x <= crossing), min(x for x in tokens if x >= crossing)
        if above > CLOSE * below:
            return f"between {below:,.0f} and {above:,.0f} tokens"
        return f"from about {crossing:,.0f} tokens on"
    return f"{'everywhere' if gains[0] >= 1 else 'nowhere'} from {tokens[0]:,.0f} to {tokens[-1]:,.0f}"
