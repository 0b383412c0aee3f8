"""What a calibration says of itself: every sample beside what the fit makes of it, and how far the fit is off."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from dwdp_lab.measure.calibration.calibrate import Calibrated
from dwdp_lab.measure.calibration.findings import Found, Samples
from dwdp_lab.measure.calibration.fit_lasting import LastingFit
from dwdp_lab.measure.calibration.fit_moves import Line
from dwdp_lab.measure.calibration.fit_units import Peaks, Units
from dwdp_lab.measure.calibration.samples import ComputeSample, ExchangeSample, PullSample
from dwdp_lab.program.operation import Work
from dwdp_lab.scenario.precision import Precision
from dwdp_lab.simulate.hardware import load_hardware


def _product(dtype: Precision) -> ComputeSample:
    """1e9 FLOPs and no bytes: 1 us at 1,000 TFLOP/s."""
    return ComputeSample(f"product {dtype}", None, (Work("gemm", dtype, 1e9, 0.0),), 4.0)


CALIBRATED = Calibrated(
    load_hardware("h100"),
    Samples(
        compute=(_product("bf16"), _product("fp8")),
        pulls=(PullSample(2e3, 1.0, 8.0), PullSample(2e3, 3.0, 5.0), PullSample(4e3, 1.0, 10.0)),
        exchanges=(ExchangeSample("dispatch", 3e3, 20.0), ExchangeSample("combine", 1e3, 9.0)),
        slowed=(),
        peaks=Peaks({"bf16": 1000.0}, 1000.0),
        launch_us=2.0,
    ),
    Found(
        Units({"gemm": 0.5}, None, {}, {}, error=0.125),
        rates={},
        pulls=Line(1.0, 1.0),
        exchanges={"dispatch": Line(0.5, 4.0)},
        slowdown={},
    ),
    spread=0.0,
    seconds=1.0,
)


def test_errors_are_those_of_the_fit_as_shares_of_what_was_measured() -> None:
    # pulls: 3 of 8 us, 5 of 5, 5 of 10; of exchanges one kind was fitted: 10 of 20 us
    assert CALIBRATED.errors() == pytest.approx({"compute": 0.125, "pulls": 0.5, "exchanges": 0.5})


def test_samples_stand_beside_what_the_fit_makes_of_them() -> None:
    plain = CALIBRATED.to_dict()
    assert [one["fitted_us"] for one in plain["pulls"]] == pytest.approx([3.0, 5.0, 5.0])
    assert [(one["kind"], one["fitted_us"]) for one in plain["exchanges"]] == [("dispatch", pytest.approx(10.0))]


def test_the_steps_that_tell_of_what_lasts_are_kept() -> None:
    assert CALIBRATED.to_dict()["lasting"] is None
    fit = LastingFit({"experts": 1.1}, 1.03, 80.0, 1800.0, {"replicated": (26.0, 29.0), "dwdp": (28.0, 31.0)})
    plain = replace(CALIBRATED, found=replace(CALIBRATED.found, lasting=fit)).to_dict()["lasting"]
    assert json.loads(json.dumps(plain)) == {
        "compute": {"experts": 1.1},
        "copies": 1.03,
        "after_ms": 80.0,
        "run_ms": 1800.0,
        "step_ms": {"replicated": [26.0, 29.0], "dwdp": [28.0, 31.0]},
    }


def test_what_is_of_a_precision_whose_rate_could_not_be_told_has_no_fitted_time() -> None:
    assert [one["fitted_us"] for one in CALIBRATED.to_dict()["compute"]] == [pytest.approx(2.0), None]
