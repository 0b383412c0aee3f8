"""What notebook 08 shows of steps that last: two seconds on two GPUs, step by step."""

from __future__ import annotations

from statistics import fmean

import pytest

from dwdp_lab.measure.runs.predicted_runs import errors_of, predict_runs
from dwdp_lab.measure.runs.recorded_runs import read_runs
from dwdp_lab.teach.recorded_lasting import LASTING, recorded_lasting
from dwdp_lab.teach.recorded_pair import recorded_distance

LATE, KEPT = "dwdp, pulls start late", "dwdp, pulls start late, 96 of 128 experts kept"
NAMES = ["replicated", "dep", "dwdp", LATE, KEPT]


def rows() -> dict[str, list[float]]:
    """The table's numbers by strategy."""
    lines = repr(recorded_lasting()).splitlines()
    found = {}
    for line in lines[lines.index("") + 2 :]:
        name, *numbers = (cell.strip() for cell in line.split("  ") if cell.strip())
        found[name] = [float(number) for number in numbers]
    return found


def test_every_run_stands_with_its_first_and_later_steps() -> None:
    found, runs = rows(), read_runs(LASTING).runs
    assert list(found) == NAMES
    later = {}
    for (name, numbers), run in zip(found.items(), runs, strict=True):
        steps = run.figures.steps_ms
        assert len(steps) == 60
        later[name] = fmean(steps[30:])
        assert (numbers[1], numbers[3]) == (pytest.approx(steps[0], abs=6e-3), pytest.approx(later[name], abs=6e-3))
        assert numbers[7] == pytest.approx(run.figures.step_ms, abs=6e-3)
    for name, numbers in found.items():
        assert numbers[4] == pytest.approx(later[name] / later["replicated"], abs=6e-4)
        assert numbers[5] == pytest.approx(later["dep"] / later[name], abs=6e-4)


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
