"""What the exercise on the cost of a copy shows of an answer."""

from __future__ import annotations

from course import named

from dwdp_lab.teach.recorded import copy_times_us


def test_a_line_a_little_below_a_recorded_time_is_not_minus_zero_off() -> None:
    sizes, times = copy_times_us()
    gbps = sizes[-1] / (0.999 * times[-1]) / 1e3
    assert named("moving_weights.fit_copy").show(lambda *_: (0.0, gbps)).words.endswith(" +0 %")
