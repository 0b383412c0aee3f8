"""The imbalance panel, moved as a person would, without a browser."""

from __future__ import annotations

import plotly.graph_objects as go
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.timeline.metrics import metrics
from dwdp_lab.timeline.span import Span, Timeline
from dwdp_lab.view.imbalance_panel import ImbalancePanel, imbalance, with_cv

SCENARIO = Scenario.create(
    model="olmoe-1b-7b",
    group={"ranks": 4},
    workload={"kind": "cv", "tokens_per_rank": 8192, "cv": 0.1},
).replace(**{"model.layers": 3})


def test_moving_the_slider_changes_words_and_figure() -> None:
    panel = ImbalancePanel(SCENARIO)
    assert panel.slider.value == 0.1
    first_words, first_bars = panel.words, [list(bar.x or ()) for bar in panel.figure.data]
    panel.slider.value = 0.3
    assert panel.words != first_words
    assert panel.words.startswith("CV 0.30: DEP's ranks wait on their peers for ")
    assert "simulated" in panel.words
    assert [list(bar.x or ()) for bar in panel.figure.data] != first_bars
    assert panel.widget.children[-1].value == panel.words
    assert metrics(panel.shown.dep).wait_pct > 0
    assert f"for {metrics(panel.shown.dep).wait_pct:.1f} % of the step" in panel.words


def test_the_panel_is_shown_with_one_figure_widget_and_falls_back_to_a_picture() -> None:
    panel = ImbalancePanel(SCENARIO)
    assert sum(isinstance(child, go.FigureWidget) for child in panel.widget.children) == 1
    assert "application/vnd.jupyter.widget-view+json" in panel._repr_mimebundle_()
    assert "CV 0.10" in panel.picture().svg


def test_dep_waits_only_when_ranks_differ_and_more_the_more_they_do() -> None:
    waits = [metrics(imbalance(SCENARIO, cv).dep).wait_pct for cv in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)]
    assert waits[0] == pytest.approx(0, abs=1e-6)
    assert waits == sorted(waits)
    assert waits[-1] > 1


def test_any_machine_may_make_the_timelines() -> None:
    def run(scenario: Scenario) -> Timeline:
        tokens = tuple(scenario.batches.tokens(rank) for rank in range(scenario.ranks))
        spans = tuple(Span(rank, "compute", "experts", 0, 0, 0, float(n)) for rank, n in enumerate(tokens))
        return Timeline(spans, scenario.strategy.name, "cpu", "measured", tokens, 1, ("made by hand",))

    panel = ImbalancePanel(SCENARIO, run)
    panel.slider.value = 0.2
    assert "DWDP is 1.00 x DEP. (measured, made by hand)" in panel.words.replace("\n", " ")


@settings(max_examples=20)
@given(st.floats(0, 0.5), st.integers(2, 6))
def test_batches_of_other_workloads_keep_their_mean(cv: float, ranks: int) -> None:
    lengths = [[1000 * (rank + 1), 500] for rank in range(ranks)]
    scenario = Scenario.create(
        group={"ranks": ranks}, workload={"kind": "explicit", "lengths": lengths, "router_skew": 0.5}
    )
    skewed = with_cv(scenario, cv)
    assert skewed.batches.cv(0) == pytest.approx(cv, abs=0.01)
    assert sum(skewed.batches.tokens(r) for r in range(ranks)) == pytest.approx(sum(map(sum, lengths)), abs=2 * ranks)
    assert skewed.workload.router_skew == 0.5
    assert skewed.model == scenario.model
