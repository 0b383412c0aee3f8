"""What notebook 08 shows of steps that last: two seconds on two GPUs, step by step."""

from __future__ import annotations

from itertools import accumulate
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwdp_lab.measure.runs.predicted_runs import errors_of, predict_runs
from dwdp_lab.measure.runs.recorded_runs import read_runs
from dwdp_lab.teach.recorded_lasting import LASTING, mean_step_ms, recorded_lasting
from dwdp_lab.teach.recorded_pair import recorded_distance

LATE, KEPT = "dwdp, pulls start late", "dwdp, pulls start late, 96 of 128 experts kept"
NAMES = ["replicated", "dep", "dwdp", LATE, KEPT]


def rows() -> dict[str, list[float]]:
    """The table's numbers by strategy."""
    lines = repr(recorded_lasting()).splitlines()
    heads = [head.strip() for head in lines[lines.index("") + 1].split("  ") if head.strip()]
    assert " | ".join(heads) == (
        "strategy | GB | first | / replicated | later | / replicated | / DEP | MHz | W | mean | predicted"
    )
    found = {}
    for line in lines[lines.index("") + 2 :]:
        name, *numbers = (cell.strip() for cell in line.split("  ") if cell.strip())
        found[name] = [float(number) for number in numbers]
    return found


def test_every_run_stands_with_its_first_and_later_steps() -> None:
    found, runs = rows(), read_runs(LASTING).runs
    assert list(found) == NAMES
    shortest_ms = min(sum(run.figures.steps_ms) for run in runs)
    assert "from 0.9 to 1.8 s (later)" in repr(recorded_lasting())
    later = {}
    for (name, numbers), run in zip(found.items(), runs, strict=True):
        steps, gpu = run.figures.steps_ms, run.figures.gpu
        assert len(steps) == 60
        later[name] = mean_step_ms(steps, shortest_ms / 2, shortest_ms)
        assert (numbers[1], numbers[3]) == (pytest.approx(steps[0], abs=6e-3), pytest.approx(later[name], abs=6e-3))
        assert gpu is not None
        assert numbers[6:8] == [pytest.approx(gpu.sm_mhz, abs=0.6), pytest.approx(gpu.power_w, abs=0.6)]
        assert numbers[8] == pytest.approx(run.figures.step_ms, abs=6e-3)
    for (name, numbers), run in zip(found.items(), runs, strict=True):
        assert numbers[2] == pytest.approx(run.figures.steps_ms[0] / runs[0].figures.steps_ms[0], abs=6e-4)
        assert numbers[4] == pytest.approx(later[name] / later["replicated"], abs=6e-4)
        assert numbers[5] == pytest.approx(later["dep"] / later[name], abs=6e-4)


def test_runs_are_compared_over_the_same_time_and_not_the_same_steps() -> None:
    """A clock that falls for a second after the first one: a run of shorter steps has more of them before that."""
    shorter, longer = [0.1] * 10 + [0.2] * 5 + [0.1] * 5, [0.125] * 8 + [0.25] * 4 + [0.125] * 8
    over = mean_step_ms(longer, 1.0, 2.0) / mean_step_ms(shorter, 1.0, 2.0)
    assert over == pytest.approx(1.25)
    assert fmean(longer[10:]) / fmean(shorter[10:]) < 1.05


@given(st.lists(st.floats(0.1, 10.0), min_size=1, max_size=20), st.floats(0.0, 0.95), st.floats(0.05, 1.0))
def test_a_mean_step_is_the_time_over_the_steps_made_in_it(steps: list[float], since: float, length: float) -> None:
    ends = list(accumulate(steps))
    assert mean_step_ms(steps, 0.0, ends[-1]) == pytest.approx(fmean(steps))
    since_ms, until_ms = since * ends[-1], min(1.0, since + length) * ends[-1]
    assert min(steps) * (1 - 1e-9) <= mean_step_ms(steps, since_ms, until_ms) <= max(steps) * (1 + 1e-9)
    assert mean_step_ms([3.0, 4.0, 5.0], 1.5, 7.0) == pytest.approx(5.5 / 1.5)


def test_experts_kept_take_memory_and_save_pulls() -> None:
    found = rows()
    # 32 more experts of 9.4 MB in each of 8 layers, and two slots for 32 instead of 64
    assert found[KEPT][0] - found[LATE][0] == pytest.approx((8 * 32 - 2 * 32) * 3 * 2048 * 768 * 2 / 1e9, abs=0.11)
    assert found[KEPT][4] < found[LATE][4]


def test_the_picture_has_each_step_at_its_end() -> None:
    gallery = recorded_lasting()
    (chart,) = gallery.pictures
    assert [curve.label for curve in chart.curves] == NAMES
    for curve, run in zip(chart.curves, read_runs(LASTING).runs, strict=True):
        assert curve.y == tuple(run.figures.steps_ms)
        assert curve.x[-1] == pytest.approx(sum(run.figures.steps_ms) / 1e3)
    assert chart.notes[0].startswith("recorded 2026-")
    assert repr(recorded_distance()).splitlines()[0] == chart.notes[0]


def test_what_lasts_is_predicted_by_a_profile_that_knows_of_it() -> None:
    file = read_runs(LASTING)
    assert file.hardware is not None
    assert file.hardware.reached is not None
    assert all(row.same_bits for row in file.summary if row.strategy.startswith("dwdp"))
    cool = file.hardware.model_copy(update={"reached": file.hardware.reached.model_copy(update={"lasting": None})})
    knowing, ignorant = (errors_of(predict_runs(file, profile)) for profile in (file.hardware, cool))
    assert knowing.median < 0.02 < 0.1 < ignorant.median
    assert abs(knowing.worst) < 0.03
    assert knowing.signs_right == knowing.signs
