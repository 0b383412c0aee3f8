"""What the fits find of machines made up for the purpose, with noise and with samples that were disturbed."""

from __future__ import annotations

import itertools
import random
import statistics
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dwdp_lab.measure.calibration.calibration_plan import calibration_plan
from dwdp_lab.measure.calibration.fit_moves import fit_exchanges, fit_pulls, fit_slowdown
from dwdp_lab.measure.calibration.fit_units import Peaks, Units, fit_units
from dwdp_lab.measure.calibration.robust_fit import nonnegative, robust_fit
from dwdp_lab.measure.calibration.samples import ComputeSample, ExchangeSample, PullSample, SlowedSample
from dwdp_lab.measure.transfers.transfers import MachineName
from dwdp_lab.program.build import build
from dwdp_lab.program.operation import Kind, Unit, Work
from dwdp_lab.program.work import WorkModel
from dwdp_lab.scenario.scenario import Scenario

PEAKS = Peaks({"fp32": 0.1}, 20.0)
EFFICIENCY = st.floats(0.2, 1.0)

NAMES = ("attention", "route", "experts", "merge", "product", "attention core")
MEASURED: tuple[Unit, ...] = ("gemm", "grouped_gemm", "attention", "memory")

units = st.builds(
    Units,
    efficiency=st.fixed_dictionaries(dict.fromkeys(MEASURED, EFFICIENCY)),
    half_rows=st.floats(1.0, 40.0),
    activations=st.fixed_dictionaries(dict.fromkeys(("attention", "route", "experts"), EFFICIENCY)),
    fixed_us=st.fixed_dictionaries(dict.fromkeys(NAMES, st.floats(5.0, 200.0))),
)


def kernels() -> list[ComputeSample]:
    """Single kernels, as the probe times them."""
    found = []
    for rows, (k, n) in itertools.product((32, 128, 512, 2048), ((64, 256), (512, 512))):
        work = Work("gemm", "fp32", 2.0 * rows * k * n, 4.0 * k * n)
        found.append(ComputeSample("product", None, (work,), 1.0))
    for length in (64, 256, 1024, 4096):
        work = Work("attention", "fp32", 2e2 * length**2, 1e3 * length)
        found.append(ComputeSample("attention core", None, (work,), 1.0))
    return found


def operations() -> list[ComputeSample]:
    """Whole operations of models of two widths with few and many tokens."""
    found = []
    for hidden, tokens in itertools.product((64, 256), (16, 64, 256, 1024)):
        model = {"preset": "tiny", "hidden": hidden, "expert_intermediate": 2 * hidden}
        scenario = Scenario.create(model=model, workload={"cv": 0.0, "tokens_per_rank": tokens})
        amounts, batch = WorkModel(scenario), scenario.batches.by_rank[0][0]
        works: dict[Kind, tuple[Work, ...]] = {
            "attention": amounts.attention(batch, 0),
            "route": amounts.route(tokens),
            "experts": amounts.experts(tokens),
            "merge": amounts.merge(),
        }
        found += [ComputeSample(kind, kind, work, 1.0) for kind, work in works.items()]
    return found


ALL = kernels() + operations()


def disturbed_time(us: float, draw: random.Random, noise: float, disturbed: float) -> float:
    """The median of five passes: a little noise each, and some of them disturbed, up to five times as long."""
    return statistics.median(
        us * draw.lognormvariate(0.0, noise) * (draw.uniform(1.3, 5.0) if draw.random() < disturbed else 1.0)
        for _ in range(5)
    )


def timed(truth: Units, seed: int, noise: float, disturbed: float) -> list[ComputeSample]:
    """The samples' times on such a machine."""
    draw = random.Random(seed)
    return [sample._replace(us=disturbed_time(truth.us(sample, PEAKS), draw, noise, disturbed)) for sample in ALL]


@settings(deadline=None, max_examples=15)
@given(units)
def test_without_noise_every_sample_is_explained(truth: Units) -> None:
    found = fit_units(timed(truth, 0, 0.0, 0.0), PEAKS)
    assert found.error < 1e-3
    for sample in ALL:
        assert found.us(sample, PEAKS) == pytest.approx(truth.us(sample, PEAKS), rel=0.02)


@settings(deadline=None, max_examples=15)
@given(units, st.integers(0, 99))
def test_noise_and_disturbed_samples_cost_a_few_per_cent(truth: Units, seed: int) -> None:
    """3 % noise, one pass in eight up to five times too long."""
    found = fit_units(timed(truth, seed, 0.03, 0.125), PEAKS)
    errors = [abs(found.us(one, PEAKS) / truth.us(one, PEAKS) - 1.0) for one in operations()]
    assert statistics.median(errors) < 0.05
    assert statistics.quantiles(errors, n=10)[-1] < 0.25


@settings(deadline=None, max_examples=15)
@given(units, st.integers(0, 99))
def test_what_single_kernels_show_is_found_itself(truth: Units, seed: int) -> None:
    truth = replace(truth, efficiency={**truth.efficiency, "gemm": max(0.3, truth.efficiency["gemm"])})
    found = fit_units(timed(truth, seed, 0.01, 0.05), PEAKS)
    for unit in ("gemm", "attention"):
        assert found.efficiency[unit] == pytest.approx(truth.efficiency[unit], rel=0.12)


def test_what_nothing_was_found_of_counts_as_all_of_the_peak() -> None:
    """1e6 FLOPs at 0.1 TFLOP/s are 10 us, 2e5 bytes at 20 GB/s are 10 us."""
    nothing = Units({}, None, {}, {})
    for work in (
        Work("gemm", "fp32", 1e6, 1e5),
        Work("gemm", "fp32", 5e5, 2e5),
        Work("memory", "fp32", 0.0, 2e5),
        Work("activations", "fp32", 0.0, 2e5),
    ):
        assert nothing.us(ComputeSample("x", None, (work,), 1.0), PEAKS) == pytest.approx(10.0)


def test_rows_an_activations_share_and_fixed_times_lengthen_a_sample() -> None:
    """By hand: 10 us at half the peak with as many rows as half_rows, 40; 10 us at a quarter, 40; 3 fixed."""
    found = Units({"grouped_gemm": 0.5}, 6.0, {"experts": 0.25}, {"experts": 3.0})
    work = (Work("grouped_gemm", "fp32", 1e6, 0.0, rows_per_expert=6.0), Work("activations", "fp32", 0.0, 2e5))
    assert found.us(ComputeSample("experts", "experts", work, 1.0), PEAKS) == pytest.approx(83.0)


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="2 samples cannot tell"):
        robust_fit(np.ones((2, 3)), np.ones(2))


@settings(deadline=None)
@given(st.integers(0, 999), st.integers(1, 5), st.integers(5, 12))
def test_nonnegative_least_squares_meets_its_conditions(seed: int, count: int, rows: int) -> None:
    """No cost below zero, and no descent left: the gradient is 0 where x > 0, and would raise the error where x = 0."""
    draw = np.random.default_rng(seed)
    matrix, target = draw.normal(size=(rows, count)), draw.normal(size=rows)
    found = nonnegative(matrix, target)
    assert (found >= 0).all()
    gradient = matrix.T @ (matrix @ found - target)
    assert np.abs(gradient[found > 0]).max(initial=0.0) < 1e-8
    assert gradient.min() > -1e-8


@cache
def pulls_of(machine: MachineName) -> list[tuple[float, float]]:
    """(bytes, copies) of the pulls that calibration runs on two ranks."""
    ops = (op for one in calibration_plan(machine, 2).pulls for op in build(one)[0].ops)
    return sorted({(op.pull.nbytes, op.pull.copies) for op in ops if op.pull is not None})


@pytest.mark.parametrize("machine", ["cpu", "cuda"])
@settings(deadline=None)
@given(st.floats(0.05, 400.0), st.floats(0.5, 200.0), st.integers(0, 99))
def test_pulls_give_rate_and_cost_per_copy(machine: MachineName, gbps: float, copy_us: float, seed: int) -> None:
    """1 % noise, one pass in ten up to five times too long."""
    draw = random.Random(seed)
    samples = [
        PullSample(size, copies, disturbed_time(size / gbps / 1e3 + copies * copy_us, draw, 0.01, 0.1))
        for size, copies in pulls_of(machine)
    ]
    line = fit_pulls(samples)
    errors = []
    for one in samples:
        exact = one.nbytes / gbps / 1e3 + one.copies * copy_us
        errors.append(abs((one.nbytes / line.gbps / 1e3 + one.copies * line.fixed_us) / exact - 1.0))
    assert statistics.quantiles(errors, n=4)[2] < 0.05


@pytest.mark.parametrize(("machine", "gbps", "copy_us"), [("cpu", 1.0, 2.0), ("cpu", 20.0, 0.3), ("cuda", 350.0, 1.0)])
def test_no_two_pulls_decide_what_a_copy_costs(machine: MachineName, gbps: float, copy_us: float) -> None:
    """Any two of them half as long again, and the line stays what it is."""
    pulls = pulls_of(machine)
    exact = [size / gbps / 1e3 + copies * copy_us for size, copies in pulls]
    for disturbed in itertools.combinations(range(len(pulls)), 2):
        line = fit_pulls(
            [
                PullSample(size, copies, us * (1.5 if number in disturbed else 1.0))
                for number, ((size, copies), us) in enumerate(zip(pulls, exact, strict=True))
            ]
        )
        assert (line.gbps, line.fixed_us) == (pytest.approx(gbps, rel=0.02), pytest.approx(copy_us, rel=0.05))


@settings(deadline=None)
@given(st.floats(0.05, 400.0), st.floats(10.0, 500.0))
def test_each_kind_of_collective_has_its_own_line(gbps: float, fixed_us: float) -> None:
    sizes = (1e4, 1e5, 1e6, 1e7)
    samples = [ExchangeSample("dispatch", size, fixed_us + size / gbps / 1e3) for size in sizes]
    samples += [ExchangeSample("combine", size, 2 * fixed_us + size / gbps / 1e3) for size in sizes]
    samples += [ExchangeSample("gather_tokens", 1e4, 7.0)]  # one size tells no line
    lines = fit_exchanges(samples)
    assert set(lines) == {"dispatch", "combine"}
    assert lines["dispatch"].fixed_us == pytest.approx(fixed_us, rel=0.01)
    assert lines["combine"].fixed_us == pytest.approx(2 * fixed_us, rel=0.01)
    assert lines["dispatch"].gbps == pytest.approx(gbps, rel=0.01)


def test_noise_that_hides_the_rate_leaves_the_largest_sample() -> None:
    line = fit_pulls([PullSample(1e3, 2, 50.0), PullSample(2e3, 2, 40.0), PullSample(4e3, 2, 30.0)])
    assert line == (pytest.approx(4e3 / 30.0 / 1e3), 0.0)


@given(st.lists(st.floats(0.8, 3.0), min_size=5, max_size=20))
def test_slowdowns_are_medians_and_never_speed_up(ratios: list[float]) -> None:
    assume(len(ratios) % 2)
    found = fit_slowdown([SlowedSample("attention", ratio) for ratio in ratios])
    assert set(found) == {"gemm", "attention", "activations", "memory"}
    assert set(found.values()) == {max(1.0, statistics.median(ratios))}
    assert fit_slowdown([]) == {}
