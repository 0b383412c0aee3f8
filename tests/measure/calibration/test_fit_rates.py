"""The rate of a precision that only operations were timed in."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwdp_lab.measure.calibration.fit_rates import fit_rate, rest_of
from dwdp_lab.measure.calibration.fit_units import Peaks, Units
from dwdp_lab.measure.calibration.samples import ComputeSample
from dwdp_lab.program.operation import Work
from dwdp_lab.program.work import WorkModel
from dwdp_lab.scenario.scenario import Scenario

PEAKS = Peaks({"fp32": 0.1}, 20.0)
UNITS = Units(
    {"gemm": 0.9, "grouped_gemm": 0.6, "attention": 0.4, "memory": 0.8}, 9.0, {"experts": 0.3}, {"experts": 120.0}
)


def _experts(tokens: int, **model: object) -> ComputeSample:
    """The experts of a small model in e4m3, not timed."""
    scenario = Scenario.create(
        model={"preset": "tiny", "expert_dtype": "fp8_channel"} | model, workload={"tokens_per_rank": tokens}
    )
    return ComputeSample("experts", "experts", WorkModel(scenario).experts(tokens), 0.0)


SAMPLES = [_experts(tokens, hidden=hidden) for hidden in (64, 256) for tokens in (64, 512, 2048)]


def _timed(rate: float, *ratios: float) -> list[ComputeSample]:
    """On a machine of this rate, as many times longer as these say."""
    peaks = Peaks({**PEAKS.tflops, "fp8": rate}, PEAKS.hbm_gbps)
    return [one._replace(us=UNITS.us(one, peaks) * ratio) for one, ratio in zip(SAMPLES, ratios, strict=True)]


@settings(deadline=None)
@given(st.floats(0.01, 0.3))
def test_the_rate_is_found_again(rate: float) -> None:
    """Rows of few tokens are held up by the weights' bytes on a fast machine, and say nothing of its rate."""
    found = fit_rate(_timed(rate, *[1.0] * len(SAMPLES)), "fp8", UNITS, PEAKS)
    assert found is not None
    assert found.tflops == pytest.approx(rate)
    assert found.samples >= 2


@pytest.mark.parametrize("ratio", [4.0, 0.25])
def test_one_disturbed_sample_does_not_decide(ratio: float) -> None:
    found = fit_rate(_timed(0.1, 1.0, 1.0, ratio, 1.0, 1.0, 1.0), "fp8", UNITS, PEAKS)
    assert found is not None
    assert found.tflops == pytest.approx(0.1)


def test_samples_that_wait_for_bytes_tell_nothing() -> None:
    slow = Peaks({"fp8": 1.0, **PEAKS.tflops}, 0.001)
    samples = [one._replace(us=UNITS.us(one, slow)) for one in SAMPLES]
    assert fit_rate(samples, "fp8", UNITS, Peaks(PEAKS.tflops, 0.001)) is None
    assert fit_rate([], "fp8", UNITS, PEAKS) is None


@pytest.mark.parametrize(("us", "told"), [(24.0, False), (26.0, True)])
def test_a_sample_tells_when_it_takes_a_quarter_longer_than_all_its_bytes(us: float, told: bool) -> None:
    """Two products, whose bytes take 10 us each at 20 GB/s."""
    work = (Work("gemm", "fp8", 1e6, 2e5), Work("gemm", "fp8", 1e6, 2e5))
    found = fit_rate([ComputeSample("x", None, work, us)], "fp8", UNITS, Peaks({}, 20.0))
    assert (found is not None) == told


def test_only_products_make_a_sample_one_of_the_rest() -> None:
    """A copy of weights in e4m3 is a sample like any other."""
    copy = ComputeSample("merge", "merge", (Work("memory", "fp8", 0.0, 1e6),), 9.0)
    assert rest_of([copy, *SAMPLES], PEAKS) == {"fp8": SAMPLES}
    assert rest_of([copy, *SAMPLES], Peaks({"fp32": 0.1, "fp8": 0.1}, 20.0)) == {}
