"""Steps measured on two GPUs (data/measured/), beside what the simulator says of a profile that never saw them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.physics import REALISTIC
from dwdp_lab.simulate.run import run_sim
from dwdp_lab.teach.recorded import provenance_of, recorded
from dwdp_lab.teach.shown import Gallery, table
from dwdp_lab.timeline.metrics import metrics
from dwdp_lab.timeline.palette import BLUE, ORANGE
from dwdp_lab.view.charts.chart import Bars, Chart

STEPS = "h200-pair-ranks"
HEADER = ("strategy", "CV", "measured ms", "/ replicated", "simulated ms", "/ replicated", "error of ms")


def recorded_steps(record: Mapping[str, Any] | None = None) -> Gallery:
    """Every strategy's step, measured and simulated, in ms and over that of `replicated`.

    `record` has the form of data/measured/h200-pair-ranks.json, which is taken unless told otherwise.
    """
    steps = (recorded(STEPS) if record is None else record)["steps"]
    groups = [[_row(steps["scenario"], group, run) for run in group["runs"]] for group in steps["tables"]]
    head = provenance_of(STEPS) if record is None else "recorded"
    profile = steps["scenario"]["hardware"]
    words = (
        f"{head}\n{steps['what']}\nsimulated: profile {profile}, all effects; nothing in it was fitted to these runs"
    )
    rows = [row.cells for group in groups for row in group]
    return Gallery(f"{words}\n\n{table(HEADER, rows)}", (_chart(groups[-1], steps["tables"][-1]["cv"]),))


class _Row(NamedTuple):
    strategy: str
    cv: float
    measured_ms: float
    measured_over: float
    simulated_ms: float
    simulated_over: float

    @property
    def cells(self) -> tuple[str, ...]:
        return (
            self.strategy,
            f"{self.cv:g}",
            f"{self.measured_ms:.2f}",
            f"{self.measured_over:.3f}",
            f"{self.simulated_ms:.2f}",
            f"{self.simulated_over:.3f}",
            f"{100 * (self.simulated_ms / self.measured_ms - 1):+z.1f} %",
        )


def _row(scenario: Mapping[str, Any], group: Mapping[str, Any], run: Mapping[str, Any]) -> _Row:
    cv = group["cv"]
    took_ms, base_ms = (_simulated_ms(scenario, cv, knobs) for knobs in (run["knobs"], {"name": "replicated"}))
    return _Row(run["strategy"], cv, run["step_ms"], run["over_replicated"], took_ms, took_ms / base_ms)


def _simulated_ms(scenario: Mapping[str, Any], cv: float, knobs: Mapping[str, Any]) -> float:
    fields = {**scenario, "workload": {**scenario["workload"], "cv": cv}}
    work = Scenario.create(fields).replace(**{f"strategy.{knob}": value for knob, value in knobs.items()})
    return metrics(run_sim(work, physics=REALISTIC)).step_ms


def _chart(rows: list[_Row], cv: float) -> Chart:
    drawn = [row for row in rows if row.strategy != "replicated"]
    return Chart(
        title=f"A step over that of replicated, CV {cv:g}",
        x_title="strategy",
        y_title="times",
        bars=(
            Bars("measured", tuple(row.measured_over for row in drawn), BLUE),
            Bars("simulated", tuple(row.simulated_over for row in drawn), ORANGE),
        ),
        categories=tuple(row.strategy for row in drawn),
        limits=(("replicated", 1.0),),
        words="Each strategy's step over one without any communication, on two GPUs and in the simulator.",
    )
