"""One slider, two strategies: how imbalance between ranks turns into waiting, and where it does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
import plotly.graph_objects as go

from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.run import run_sim
from dwdp_lab.timeline.compare import compare
from dwdp_lab.timeline.metrics import metrics
from dwdp_lab.timeline.span import Timeline
from dwdp_lab.timeline.words import wrapped
from dwdp_lab.view.picture import Picture, timeline_picture
from dwdp_lab.view.timeline_plot import timeline_figure, update_timeline_figure

Run = Callable[[Scenario], Timeline]


@dataclass(frozen=True)
class Imbalance:
    """DEP and DWDP on the same batches, and what to say about them."""

    dep: Timeline
    dwdp: Timeline
    words: str


def imbalance(scenario: Scenario, cv: float, run: Run = run_sim) -> Imbalance:
    """Run DEP and DWDP on batches whose tokens per rank have this CV (standard deviation over mean).

    The mean tokens per rank, and about the length of requests, are the scenario's; its other knobs stay.
    """
    skewed = with_cv(scenario, cv)
    dep, dwdp = run(skewed.with_strategy("dep")), run(skewed.with_strategy("dwdp"))
    words = (
        f"CV {cv:.2f}: DEP's ranks wait on their peers for {metrics(dep).wait_pct:.1f} % of the step, "
        f"DWDP's for {metrics(dwdp).wait_pct:.1f} %. {compare(dwdp, dep).words}. "
    )
    return Imbalance(dep, dwdp, words + _worth(dep, dwdp))


def with_cv(scenario: Scenario, cv: float) -> Scenario:
    """The scenario with its batches replaced by one step of the given CV and of the same mean."""
    workload = scenario.workload
    if workload.kind == "cv":
        return scenario.replace(**{"workload.cv": cv})
    batches = scenario.batches
    chunks = [chunk for steps in batches.by_rank for chunk in steps[0]]
    tokens = sum(chunk.new_tokens for chunk in chunks)
    fields = {
        "kind": "cv",
        "cv": cv,
        "tokens_per_rank": max(1, round(tokens / batches.ranks)),
        "isl_tokens": max(1, round(tokens / max(1, len(chunks)))),
        "router_skew": workload.router_skew,
        "seed": workload.seed,
    }
    return scenario.replace(workload=fields)


def _worth(dep: Timeline, dwdp: Timeline) -> str:
    """Provenance and notes of both, each once."""
    notes = dict.fromkeys((dep.provenance, dwdp.provenance, *dep.notes, *dwdp.notes))
    return f"({', '.join(notes)})"


class ImbalancePanel:
    """A slider for the CV of tokens per rank, DEP and DWDP on one time axis, and the result in words.

    Shown as the last value of a cell. `panel.slider.value = 0.3` does what dragging does; `panel.words`,
    `panel.figure` and `panel.shown` follow. `run` makes a timeline of a scenario: the simulator unless given.
    """

    def __init__(self, scenario: Scenario, run: Run = run_sim) -> None:
        self.scenario = scenario
        self._run = run
        start = scenario.workload.cv if scenario.workload.kind == "cv" else scenario.batches.cv(0)
        self.slider = widgets.FloatSlider(
            value=min(0.5, round(start, 2)),
            min=0.0,
            max=0.5,
            step=0.01,
            description="CV of tokens per rank",
            style={"description_width": "initial"},
            layout={"width": "480px"},
        )
        self.shown = imbalance(scenario, self.slider.value, run)
        self.figure = go.FigureWidget(timeline_figure([self.shown.dep, self.shown.dwdp]))
        self._note = widgets.HTML(self.words)
        self.widget = widgets.VBox([self.slider, self.figure, self._note])
        self.slider.observe(self._moved, names="value")

    @property
    def words(self) -> str:
        """What the panel says below the figure."""
        return wrapped(self.shown.words)

    def picture(self) -> Picture:
        """What is shown now as an SVG, for where widgets do not work."""
        return timeline_picture([self.shown.dep, self.shown.dwdp], title=f"CV {self.slider.value:.2f}")

    def _moved(self, change: dict[str, Any]) -> None:
        self.shown = imbalance(self.scenario, change["new"], self._run)
        update_timeline_figure(self.figure, [self.shown.dep, self.shown.dwdp])
        self._note.value = self.words

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.widget._repr_mimebundle_(**options)
