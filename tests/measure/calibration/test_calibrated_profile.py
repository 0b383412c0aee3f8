"""Calibrating a machine that is itself simulated: what is found predicts other scenarios on it."""

from __future__ import annotations

import itertools
import statistics
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from dwdp_lab.measure.calibration.calibrated_profile import assumed_rates, calibrated_profile
from dwdp_lab.measure.calibration.calibration_plan import (
    FULL_LOAD_TOKENS,
    CalibrationPlan,
    calibration_plan,
)
from dwdp_lab.measure.calibration.calibration_runs import Runs, run_plan, samples_of, spread_of
from dwdp_lab.measure.calibration.findings import Samples, fit_samples
from dwdp_lab.measure.calibration.fit_lasting import LastingFit
from dwdp_lab.measure.calibration.kernels_plan import KernelReport
from dwdp_lab.measure.calibration.samples import ComputeSample
from dwdp_lab.measure.runs.predicted_runs import predict_runs
from dwdp_lab.measure.runs.recorded_runs import read_runs
from dwdp_lab.measure.where import Where
from dwdp_lab.program.operation import Work
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.cost import CostModel
from dwdp_lab.simulate.hardware import Hardware, load_hardware
from dwdp_lab.simulate.physics import REALISTIC
from dwdp_lab.simulate.reached import Number
from dwdp_lab.simulate.run import run_sim
from dwdp_lab.timeline.metrics import metrics
from dwdp_lab.timeline.span import Timeline

WHERE = Where("cpu", 2, "a machine made up", {"python": "3"}, "2026-11-23T00:00:00", "dwdp-lab calibrate", ())


def _number(value: float) -> dict[str, Any]:
    return {"value": value, "source": "made up"}


MACHINE = Hardware.model_validate(
    {
        "name": "made-up",
        "title": "A machine made up",
        "provenance": "calibrated",
        "tflops": {"fp32": _number(0.1), "fp8": _number(0.17)},
        "hbm_gbps": _number(15.0),
        "memory_gb": _number(8.0),
        "link_gbps": _number(6.0),
        "reached": {
            "efficiency": {
                "gemm": _number(0.9),
                "grouped_gemm": _number(0.7),
                "attention": _number(0.4),
                "activations": _number(0.3),
                "memory": _number(0.8),
            },
            "half_rows": _number(6.0),
            "operations": {
                "attention": {"fixed_us": _number(150.0), "activations": _number(0.2)},
                "route": {"fixed_us": _number(90.0), "activations": _number(0.1)},
                "experts": {"fixed_us": _number(180.0), "activations": _number(0.35)},
                "merge": {"fixed_us": _number(15.0)},
            },
            "link": _number(1.0),
            "collective": _number(0.2),
            "copy_us": _number(1.5),
            "collective_us": _number(400.0),
            "exchanges": {
                "dispatch": {"share": _number(0.05), "fixed_us": _number(800.0)},
                "combine": {"share": _number(0.1), "fixed_us": _number(400.0)},
            },
            "copy_slowdown": {
                "gemm": _number(1.2),
                "attention": _number(1.2),
                "activations": _number(1.2),
                "grouped_gemm": _number(1.3),
                "memory": _number(1.2),
            },
        },
    }
)


def _kernels(plan: CalibrationPlan) -> KernelReport:
    """What the job would report of the machine."""
    cost = CostModel.of(MACHINE, None, REALISTIC)
    works = [
        (f"product {'fp32'}", Work("gemm", "fp32", one.flops, 4.0 * one.k * one.n)) for one in plan.kernels.products
    ]
    works += [
        (
            "attention core",
            Work("attention", "fp32", 2.0 * one.heads * one.head_dim * one.tokens * (one.tokens + 1), 1e3 * one.tokens),
        )
        for one in plan.kernels.cores
    ]
    samples = [ComputeSample(name, None, (work,), 3.0 + cost.work_us((work,))) for name, work in works]
    samples += [ComputeSample("copy", None, (Work("memory", "fp32", 0.0, 2e8),), 2e8 / 15e3)]
    return KernelReport(tuple(samples), {"fp32": 0.1}, 2.0, 16e9, True)


PLAN = calibration_plan("cpu", 2)._replace(passes=1)


@cache
def _runs() -> Runs:
    return run_plan(PLAN, lambda scenario: run_sim(scenario, hardware=MACHINE, physics=REALISTIC))


@cache
def _samples() -> Samples:
    return samples_of(PLAN, _runs(), [_kernels(PLAN), _kernels(PLAN)])


@cache
def _profile() -> Hardware:
    samples = _samples()
    return calibrated_profile(samples, fit_samples(samples), WHERE, 16e9, sharing=2)


def test_single_numbers_are_found_again() -> None:
    found, true = _profile(), MACHINE
    assert found.reached is not None
    assert true.reached is not None
    assert found.link_gbps.value == pytest.approx(6.0, rel=0.01)
    assert found.hbm_gbps.value == pytest.approx(15.0, rel=0.01)
    assert {name: rate.value for name, rate in found.tflops.items()} == pytest.approx(
        {"fp32": 0.1, "fp8": 0.17}, rel=0.02
    )
    assert found.reached.copy_us is not None
    assert found.reached.copy_us.value == pytest.approx(1.5, rel=0.01)
    for unit in ("gemm", "attention", "grouped_gemm"):
        assert found.reached.efficiency[unit].value == pytest.approx(true.reached.efficiency[unit].value, rel=0.03)
    for kind, operation in true.reached.operations.items():
        fixed = found.reached.operations[kind].fixed_us
        assert operation.fixed_us is not None
        assert fixed is not None
        assert fixed.value == pytest.approx(operation.fixed_us.value, rel=0.2)
    shares = [one.activations.value for one in found.reached.operations.values() if one.activations is not None]
    assert len(shares) == 3
    assert found.reached.efficiency["activations"].value == statistics.median(shares)
    for unit, ratio in true.reached.copy_slowdown.items():
        assert found.reached.copy_slowdown[unit].value == pytest.approx(ratio.value, rel=0.05)


def test_what_ranks_report_of_a_kernel_counts_as_their_median() -> None:
    """The second of three ranks is four times as slow as the first, the last one three times."""

    def slower(report: KernelReport, factor: float) -> KernelReport:
        samples = tuple(one._replace(us=factor * one.us) for one in report.samples)
        peaks = {name: rate / factor for name, rate in report.peak_tflops.items()}
        return report._replace(samples=samples, peak_tflops=peaks, launch_us=factor * report.launch_us)

    usual = _samples()
    found = samples_of(PLAN, _runs(), [slower(_kernels(PLAN), factor) for factor in (1.0, 4.0, 3.0)])
    assert found.compute[0].us == pytest.approx(3.0 * usual.compute[0].us)
    assert found.peaks.tflops["fp32"] == pytest.approx(usual.peaks.tflops["fp32"] / 3.0)
    assert found.peaks.hbm_gbps == pytest.approx(usual.peaks.hbm_gbps / 3.0)
    assert found.launch_us == pytest.approx(3.0 * usual.launch_us)


def test_each_kind_of_collective_is_found_apart() -> None:
    """Those that the machine has no numbers of its own for take its general ones."""
    reached = _profile().reached
    assert reached is not None
    expected = {"dispatch": (0.05, 800.0), "combine": (0.1, 400.0), "gather_tokens": (0.2, 400.0)}
    for kind, (share, fixed_us) in expected.items():
        assert reached.exchanges[kind].share.value == pytest.approx(share, rel=0.02)  # type: ignore[index]
        assert reached.exchanges[kind].fixed_us.value == pytest.approx(fixed_us, rel=0.02)  # type: ignore[index]


OTHER = {"preset": "tiny", "hidden": 128, "layers": 5, "experts": 12, "top_k": 3, "expert_intermediate": 160}


@pytest.mark.parametrize("strategy", ["replicated", "dep", "weight_gather", "dwdp"])
@pytest.mark.parametrize(("tokens", "cv"), [(100, 0.0), (700, 0.3), (3000, 0.1)])
@pytest.mark.parametrize("knobs", [{}, {"strategy.weight_view": "merged", "strategy.slice_bytes": 8192}])
def test_other_scenarios_are_predicted(strategy: str, tokens: int, cv: float, knobs: dict[str, Any]) -> None:
    scenario = Scenario.create(
        model=OTHER, strategy={"name": strategy}, workload={"tokens_per_rank": tokens, "cv": cv, "steps": 2}
    ).replace(**knobs)
    true, predicted = (
        metrics(run_sim(scenario, hardware=profile, physics=REALISTIC)).step_ms for profile in (MACHINE, _profile())
    )
    assert predicted == pytest.approx(true, rel=0.03)


def test_passes_that_differ_tell_of_a_disturbed_machine() -> None:
    assert spread_of(_runs()) is None, "a single pass does not tell"
    plan = calibration_plan("cpu", 2)._replace(passes=2, compute=(), exchanges=())
    assert spread_of(run_plan(plan, lambda one: run_sim(one, hardware=MACHINE, physics=REALISTIC))) == 0.0
    speeds = itertools.chain([1.0] * len(plan.scenarios()), itertools.repeat(2.0))  # slow is all of the second pass

    def disturbed(scenario: Scenario) -> Timeline:
        factor, timeline = next(speeds), run_sim(scenario, hardware=MACHINE, physics=REALISTIC)
        spans = [s._replace(start_us=factor * s.start_us, end_us=factor * s.end_us) for s in timeline.spans]
        return replace(timeline, spans=tuple(spans))

    assert spread_of(run_plan(plan, disturbed)) == pytest.approx(1.0)


def test_operations_of_many_tokens_are_sampled_under_load_that_lasts() -> None:
    """As long as runs of `bench strategies` last, on the machine that the recorded profile is of."""
    plan, h200 = calibration_plan("cuda", 2), read_runs("h200-pair-tokens").hardware
    assert h200 is not None
    many = [one for one in plan.compute if one.batches.tokens(0, 0) >= FULL_LOAD_TOKENS]
    assert len(many) == 5
    for scenario in many:
        usual = run_sim(scenario, hardware=h200, physics=REALISTIC)
        assert 30_000.0 < max(span.end_us for span in usual.spans) < 150_000.0


def test_a_quick_plan_is_short() -> None:
    for machine in ("cpu", "cuda"):
        quick = calibration_plan(machine, 2, quick=True)
        assert quick.passes == 1
        assert all(one.batches.steps <= 3 for one in quick.scenarios())
        assert quick.kernels.least_us + quick.kernels.settle_us <= 14_000.0


def test_rates_that_were_not_measured_follow_from_the_data_sheet_and_say_so() -> None:
    samples, sheet = _samples(), load_hardware("h200")
    with_bf16 = replace(samples, peaks=replace(samples.peaks, tflops={"fp32": 0.1, "bf16": 600.0}))
    found = replace(fit_samples(samples), rates={})  # a machine without e4m3
    profile = calibrated_profile(with_bf16, found, WHERE, 16e9, sheet)
    assert profile.memory_gb.value == 16.0
    assert profile.memory_gb.source.endswith(": the device's memory")
    assert set(profile.tflops) == set(sheet.tflops)
    assert profile.tflops["fp32"].value == 0.1
    assert profile.tflops["bf16"].value == 600.0
    assert profile.tflops["fp8"].value == pytest.approx(600.0 * 1979 / 989, rel=1e-3)
    assert profile.tflops["fp8"].source.startswith("not measured: 1979 / 989 of the measured rate of bf16 (NVIDIA H200")
    assert profile.calibration is not None
    (note,) = profile.calibration.notes
    assert note.startswith("not measured: the rates of fp16, fp8, mxfp4, nvfp4, which follow from that of bf16")
    assert calibrated_profile(samples, found, WHERE, 16e9, sheet).tflops.keys() == {"fp32"}  # nothing to start from


def test_a_profile_without_measured_fp8_still_tells_who_is_faster_with_experts_in_e4m3() -> None:
    """The pair that was calibrated also ran e4m3: as if the calibration had not measured it."""
    calibrated, runs, sheet = read_runs("h200-pair-tokens").hardware, read_runs("h200-pair-fp8"), load_hardware("h200")
    assert calibrated is not None
    known = {precision: rate for precision, rate in calibrated.tflops.items() if precision != "fp8"}
    assumed = assumed_rates({precision: rate.value for precision, rate in known.items()}, sheet)
    profile = calibrated.model_copy(update={"tflops": known | assumed})
    predicted = predict_runs(runs.model_copy(update={"hardware": profile}))
    assert {one.right for one in predicted if one.tells} == {True}
    assert max(abs(one.error) for one in predicted) < 0.15


def test_a_profile_says_where_it_comes_from_and_can_be_read_again(tmp_path: Any) -> None:
    profile = _profile()
    assert profile.provenance == "calibrated"
    assert profile.calibration is not None
    assert (profile.calibration.device, profile.calibration.command) == (WHERE.device, WHERE.command)
    assert "2 cpu ranks on a machine made up" in profile.link_gbps.source
    assert profile.memory_gb.value == 8.0
    assert profile.memory_gb.source.endswith("a rank's part of the device's memory, which 2 share")
    fitted = [one for one in _samples().compute if {piece.dtype for piece in one.work if piece.flops} <= {"fp32"}]
    assert len(fitted) == len(_samples().compute) - 4  # those in e4m3 give a rate of their own
    assert profile.reached is not None
    assert f" over {len(fitted)} operations and kernels" in profile.reached.efficiency["gemm"].source
    file = tmp_path / "profile.json"
    file.write_text(profile.model_dump_json(exclude_none=True))
    assert load_hardware(str(file)) == profile


def test_what_lasts_is_in_the_profile_with_how_it_was_measured() -> None:
    fit = LastingFit({"attention": 1.0, "experts": 1.12345}, 1.04, 87.654, 1862.0, {"replicated": (26.0, 30.0)})
    found = replace(fit_samples(_samples()), lasting=fit)
    profile = calibrated_profile(_samples(), found, WHERE, 16e9)
    assert profile.reached is not None
    lasting = profile.reached.lasting
    assert lasting is not None
    assert lasting.copies is not None
    numbers = lasting.compute["attention"], lasting.compute["experts"], lasting.copies, lasting.after_ms
    assert [number.value for number in numbers] == [1.0, 1.123, 1.04, 87.65]
    for number in numbers:
        assert "measured on 2 cpu ranks on a machine made up" in number.source
        assert "2 steps in a row, 1862 ms" in number.source
    assert "within the first 40 ms; replicated" in lasting.compute["experts"].source
    assert "dwdp over replicated, while pulls ran" in lasting.copies.source
    assert ": the first step nearer to those of the second half" in lasting.after_ms.source
    without = replace(found, lasting=fit._replace(copies=None))
    reached = calibrated_profile(_samples(), without, WHERE, 16e9).reached
    assert reached is not None
    assert reached.lasting is not None
    assert reached.lasting.copies is None
    usual = _profile().reached
    assert usual is not None
    assert usual.lasting is None


def test_old_profiles_have_no_calibration_and_stay_valid() -> None:
    profile = load_hardware("h100")
    assert profile.calibration is None
    assert profile.reached is not None
    assert profile.reached.operations == {}
    assert profile.reached.exchanges == {}


def test_numbers_have_few_digits() -> None:
    profile = _profile()
    assert isinstance(profile.hbm_gbps, Number)
    for number in (profile.hbm_gbps, profile.link_gbps, *profile.tflops.values()):
        assert number.value == float(f"{number.value:.4g}")
