"""The course's plots: what they say is what the simulator gives, and they are drawn with units on every axis."""

from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwdp_lab.program.memory import ledger
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.run import run_sim
from dwdp_lab.timeline.metrics import metrics
from dwdp_lab.view.charts.axis import axis
from dwdp_lab.view.charts.chart import Bars, Chart, Curve
from dwdp_lab.view.charts.contention import contention
from dwdp_lab.view.charts.heat_map import HeatMap, colour, contrast, readable_on
from dwdp_lab.view.charts.memory import PARTS, memory_bytes, memory_ledger
from dwdp_lab.view.charts.roofline import roofline
from dwdp_lab.view.charts.sweeps import crossing_point, crossover, speed_up_map, step_time_over_cv, with_tokens

SCENARIO = Scenario.create(
    model="qwen3-30b-a3b", group={"ranks": 4}, workload={"tokens_per_rank": 16384, "cv": 0.2, "isl_tokens": 2048}
).replace(**{"model.layers": 3})


def written(chart: Chart | HeatMap) -> list[str]:
    root = ElementTree.fromstring(chart.svg())
    return [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("plot", [crossover, step_time_over_cv, speed_up_map, roofline, contention, memory_ledger])
def test_each_plot_is_an_svg_and_a_figure_with_its_titles_and_what_it_is_worth(plot) -> None:  # type: ignore[no-untyped-def]
    chart = plot(SCENARIO)
    words = written(chart)
    assert {chart.title, chart.x_title, chart.y_title} <= set(words)
    assert any("simulated" in line or "computed" in line for line in chart.notes)
    assert chart.notes[0] in " ".join(words)
    assert chart.svg() == chart._repr_svg_()
    assert chart.words
    figure = chart.figure()
    assert figure.layout.xaxis.title.text == chart.x_title
    assert figure.layout.yaxis.title.text == chart.y_title
    assert len(figure.data) == (1 if isinstance(chart, HeatMap) else len(chart.curves) + len(chart.bars))


def test_the_crossover_lies_where_the_curves_cross() -> None:
    told: list[float] = []
    chart = crossover(SCENARIO, (2048, 4096, 8192, 16384, 32768), told.append)
    dep, dwdp, ideal = chart.curves
    assert dwdp.y[3] == metrics(run_sim(with_tokens(SCENARIO, 16384))).step_ms
    assert dwdp.y[0] > dep.y[0]
    assert dwdp.y[-1] < dep.y[-1]
    assert all(best <= other for best, other in zip(ideal.y, dwdp.y, strict=True))
    tokens = float(chart.words.split("about ")[1].split(" ")[0].replace(",", ""))
    assert 2048 < tokens < 32768
    assert told[-1] == 1.0


@given(st.floats(1.01, 50), st.floats(1.01, 50))
def test_a_crossing_is_between_the_points_it_follows_from(below: float, above: float) -> None:
    found = crossing_point((100, 200, 400), (1 / below, 1 / below, above))
    assert found is not None
    assert 200 <= found <= 400
    assert crossing_point((1, 2), (1.1, 1.2)) is None
    assert crossing_point((1, 2), (0.9, 0.95)) is None


def test_imbalance_costs_dep_waiting() -> None:
    chart = step_time_over_cv(SCENARIO, (0.0, 0.4))
    dep, dwdp, ideal = chart.curves
    assert dep.y[1] > dep.y[0]
    assert ideal.y[1] == pytest.approx(ideal.y[0], rel=0.01)
    assert dwdp.x == (0.0, 0.4)


def test_the_map_holds_the_ratios_of_its_cells() -> None:
    chart = speed_up_map(SCENARIO, (4096, 32768), (0.0, 0.3))
    cell = with_tokens(SCENARIO.replace(**{"workload.cv": 0.3}), 32768)
    dep, dwdp = (metrics(run_sim(cell.with_strategy(name))).tokens_per_s for name in ("dep", "dwdp"))
    assert chart.values[1][1] == pytest.approx(dwdp / dep)
    assert [len(row) for row in chart.values] == [2, 2]


@given(st.floats(0.01, 100))
def test_colours_are_as_strong_for_a_ratio_as_for_its_reciprocal(ratio: float) -> None:
    def strength(colour: str) -> float:
        red, blue = int(colour[1:3], 16), int(colour[5:7], 16)
        return min(1.0, (247 - min(red, blue)) / 247)

    assert strength(colour(ratio)) == pytest.approx(strength(colour(1 / ratio)), abs=0.02)
    assert colour(1.0) == "#F7F7F7"


def test_operations_lie_under_the_roof() -> None:
    chart = roofline(SCENARIO)
    peak = max(chart.curves[0].y)
    points = {curve.labels[0]: (curve.x[0], curve.y[0]) for curve in chart.curves if curve.labels}
    assert set(points) == {"attention", "route", "experts", "step against link"}
    for name, (intensity, speed) in points.items():
        if name != "step against link":
            assert speed <= min(peak, intensity * 3350 / 1e3) * 1.001, name
    moved = roofline(SCENARIO.with_strategy("replicated"))
    assert moved.words == "replicated moves nothing between ranks."
    assert "waits for what it moves" in roofline(SCENARIO.with_strategy("dep")).words


def test_a_roofline_has_the_peak_of_every_unit_that_the_model_uses() -> None:
    nvfp4 = {"preset": "deepseek-r1", "layers": 4, "expert_dtype": "nvfp4", "dense_dtype": "bf16"}
    chart = roofline(SCENARIO.replace(model=nvfp4, hardware="gb200"))
    assert chart.limits == (("peak in BF16: 2,500 TFLOP/s", 2500.0),)
    assert max(chart.curves[0].y) == 10000.0
    assert roofline(SCENARIO).limits == ()  # all in bf16: the roof itself


def test_words_beside_near_points_do_not_lie_on_each_other() -> None:
    near = tuple(Curve("", (x,), (1.0,), "#000", line=False, labels=("a long label",)) for x in (1.0, 1.01, 1.02, 1.9))
    svg = Chart(title="", x_title="", y_title="", curves=near).svg()
    heights = [float(y) for y in re.findall(r'y="([\d.]+)"[^>]*>a long label<', svg)]
    assert len(heights) == 4
    assert len(set(heights)) == 3, heights  # three below each other, and the last, far from them, beside the first


def test_in_phase_ranks_share_no_source_and_ascending_ones_do() -> None:
    balanced = SCENARIO.replace(**{"workload.cv": 0.0, "group.ranks": 4})
    rotated, ascending = contention(balanced), contention(balanced.replace(**{"strategy.peer_order": "ascending"}))
    assert rotated.bars[1].values == pytest.approx((100, 0, 0))
    assert ascending.bars[1].values[0] < 50
    assert rotated.bars[0].values == pytest.approx((44.44, 44.44, 11.11), abs=0.01)  # the paper's table 2
    for chart in (rotated, ascending):
        assert [sum(bars.values) for bars in chart.bars] == pytest.approx([100, 100])
    with pytest.raises(ScenarioError, match=r"group\.ranks"):
        contention(Scenario.create(group={"ranks": 1}))


def test_the_ledger_adds_up_by_hand() -> None:
    scenario = Scenario.create(group={"ranks": 2}, workload={"tokens_per_rank": 100, "cv": 0.0})
    expert = 3 * 64 * 96 * 4
    held = {name: memory_bytes(scenario, name) for name in ("replicated", "dep", "weight_gather", "dwdp")}
    assert [each["experts kept"] for each in held.values()] == [32 * expert, 16 * expert, 16 * expert, 16 * expert]
    assert [each["staging slots"] for each in held.values()] == [0, 0, 16 * expert, 8 * expert]
    assert held["dwdp"]["embeddings"] == 2 * 256 * 64 * 4
    assert held["dwdp"]["keys and values of one step"] == 100 * 4 * 2 * 2 * 16 * 4
    assert held["dwdp"]["attention, router, dense layers"] == 4 * (64 * 16 * (2 * 4 + 2 * 2) + 64 * 8) * 4
    assert sum(held["dwdp"].values()) == ledger(scenario, "dwdp").total
    merged = scenario.replace(**{"strategy.weight_view": "merged"})
    assert memory_bytes(merged, "dwdp")["staging slots"] == 16 * expert
    chart = memory_ledger(scenario)
    assert [bars.label for bars in chart.bars] == list(PARTS)


@given(st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=8), st.booleans(), st.booleans())
def test_an_axis_has_room_for_its_values_and_round_ticks_within(values: list[float], log: bool, zero: bool) -> None:
    made = axis(values, 50, 650, log, zero)
    for value in values:
        assert 50 <= made.place(value) <= 650
    ticks = made.ticks()
    assert 1 <= len(ticks) <= 10
    for value, _ in ticks:
        assert 49.9 <= made.place(value) <= 650.1
    assert len({label for _, label in ticks}) == len(ticks)


def test_a_rank_alone_is_told_no_gain_where_there_is_none() -> None:
    alone = Scenario.create(model="tiny", group={"ranks": 1})
    assert "per rank, about as much as replicated." in memory_ledger(alone).words
    assert "DWDP is as fast as DEP" in crossover(alone, (256, 1024)).words


def test_slots_for_every_expert_are_told_as_more_memory() -> None:
    knobs = {"slots": 3, "weight_view": "merged"}
    merged = Scenario.create(model={"preset": "tiny", "layers": 2}, group={"ranks": 2}, strategy=knobs)
    held = {name: sum(memory_bytes(merged, name).values()) for name in ("dwdp", "replicated")}  # type: ignore[arg-type]
    ratio = held["dwdp"] / held["replicated"]
    assert ratio > 1.05
    assert f"{ratio:.1f} x more than replicated" in memory_ledger(merged).words


def test_the_numbers_below_many_bars_do_not_lie_on_each_other() -> None:
    few, many = (
        contention(Scenario.create(model={"preset": "tiny", "experts": 64}, group={"ranks": n})) for n in (8, 64)
    )
    assert len(few.categories) == 7
    assert len(many.categories) == 63
    for chart in (few, many):
        # the labels below the axis: the lowest line of small middle-anchored texts
        found = re.findall(r'<text x="([\d.]+)" y="330" font-size="10.5"[^>]*text-anchor="middle">(\d+)<', chart.svg())
        edges = [(float(x) - 3 * len(words), float(x) + 3 * len(words)) for x, words in found]
        assert len(edges) >= 7
        assert all(right < left for (_, right), (left, _) in pairwise(edges))


def test_bars_below_zero_hang_from_it_and_what_is_not_finite_is_not_drawn() -> None:
    chart = Chart("t", "x", "y", bars=(Bars("a", (-1.0, 2.0), "#123456"),), categories=("a", "b"))
    heights = [float(height) for height in re.findall(r'height="([\d.]+)" fill="#123456"><title>', chart.svg())]
    assert len(heights) == 2
    assert heights[1] == pytest.approx(2 * heights[0], rel=0.01)
    holes = Chart("t", "x", "y", curves=(Curve("a", (1.0, 2.0, 3.0), (1.0, float("nan"), 2.0)),))
    assert "nan" not in holes.svg()
    assert holes.svg().count("<circle") == 2


def test_the_number_in_a_cell_can_be_read_on_every_colour() -> None:
    assert contrast("#FFFFFF", "#000000") == pytest.approx(21.0)
    assert contrast("#777777", "#FFFFFF") == pytest.approx(4.48, abs=0.01)  # a known near miss of WCAG's 4.5
    for step in range(-60, 61):
        ground = colour(1.6 ** (step / 50))
        assert contrast(readable_on(ground), ground) >= 4.5


@pytest.mark.parametrize("name", ["a-model-" * 20, "a model " * 20])
def test_a_long_title_stays_on_the_card(name: str) -> None:
    short = memory_ledger(Scenario.create(model="tiny")).svg()
    for plot in (
        memory_ledger(Scenario.create(model={"preset": "tiny", "name": name.strip()})),
        HeatMap(name, "x", "y", ("a",), ("b",), ((1.0,),)),
    ):
        titles = re.findall(r'font-size="15"[^>]*>([^<]*)<', plot.svg())
        assert len(titles) > 1
        assert all(16 + 8 * len(line) <= 720 - 16 for line in titles)
    assert len(re.findall(r'font-size="15"', short)) == 1
