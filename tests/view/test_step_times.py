"""The chart of single steps over the time of their run."""

from __future__ import annotations

import pytest

from dwdp_lab.view.charts.step_times import COLOURS, step_times


def test_each_step_stands_at_its_end() -> None:
    chart = step_times({"a": [10.0, 20.0, 30.0], "b": [5.0]}, ("recorded",))
    first, second = chart.curves
    assert (first.label, first.x, first.y) == ("a", pytest.approx((0.01, 0.03, 0.06)), (10.0, 20.0, 30.0))
    assert (second.x, second.y) == (pytest.approx((0.005,)), (5.0,))
    assert first.colour != second.colour
    assert chart.notes == ("recorded",)
    assert chart.log_y, "the same distance is the same ratio, as the words say"
    assert "the same distance upwards is the same ratio" in chart.words
    assert not any(curve.points for curve in chart.curves), "sixty steps are a line"
    assert (chart.x_title, chart.y_title) == ("time since the run began (s)", "step (ms)")
    assert chart.svg().startswith("<svg")


def test_a_run_of_a_file_that_kept_no_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="old: the run kept no times of single steps"):
        step_times({"old": []})


def test_no_two_runs_have_one_colour() -> None:
    chart = step_times({str(number): [1.0] for number in range(len(COLOURS))})
    assert len({curve.colour for curve in chart.curves}) == len(COLOURS)
    with pytest.raises(ValueError, match="colours for 9"):
        step_times({str(number): [1.0] for number in range(len(COLOURS) + 1)})
