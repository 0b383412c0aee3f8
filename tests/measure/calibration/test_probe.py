"""Probes: medians of enough timings, and the same figures whichever device."""

from __future__ import annotations

import pytest
import torch

from dwdp_lab.measure.calibration import probe
from dwdp_lab.measure.calibration.kernels_plan import Core, KernelPlan, Product
from dwdp_lab.measure.calibration.kernels_rank import measure_kernels
from dwdp_lab.measure.calibration.probe import FEWEST, MOST, CudaProbe, HostProbe, open_probe


class Clock:
    """A clock that moves by what the work says it took."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.calls = 0

    def work(self, *took_us: float) -> None:
        self.now_ns += round(1e3 * took_us[self.calls % len(took_us)])
        self.calls += 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(probe.time, "perf_counter_ns", lambda: made.now_ns)
    return made


def test_the_median_of_at_least_so_much_time(clock: Clock) -> None:
    assert HostProbe().time_us(lambda: clock.work(100.0, 100.0, 900.0), 5000.0) == 100.0
    assert clock.calls - 2 >= 5000 / 400  # two calls warm up


def test_long_work_is_timed_a_few_times_and_short_work_not_for_ever(clock: Clock) -> None:
    assert HostProbe().time_us(lambda: clock.work(1e6), 1000.0) == 1e6
    assert clock.calls == 2 + FEWEST
    clock.calls = 0
    assert HostProbe().time_us(lambda: clock.work(1.0), 1e9) == 1.0
    assert clock.calls == 2 + MOST


class Session:
    """What the job needs of a rank's session."""

    rank = 0

    def __init__(self) -> None:
        self.met: list[str] = []
        self.channel = self

    def gather(self, name: str, value: object) -> tuple[tuple[object, ...], list[int]]:
        self.met.append(name)
        return (value,), []

    def send(self, _: object) -> None:
        pass


PLAN = KernelPlan(
    "cpu", ("fp32", "bf16"), Product(64, 64, 64), (Product(16, 32, 64),), (Core(32, 2, 1, 16),), (4096, 8192), 10.0
)


def test_the_job_times_every_kernel_and_ranks_meet_before_each() -> None:
    session = Session()
    report = measure_kernels(session, PLAN)  # type: ignore[arg-type]
    assert [sample.what for sample in report.samples] == ["product fp32", "attention core", "copy", "copy"]
    assert all(sample.us > 0 for sample in report.samples)
    assert len(session.met) == 2 + len(report.samples) + 1  # the largest in each precision, and the launch
    assert len(set(session.met)) == len(session.met)
    assert set(report.peak_tflops) == {"fp32", "bf16"}
    assert report.launch_us > 0
    assert report.memory_bytes > 1e8
    assert report.samples[0].work[0].flops == 2 * 16 * 32 * 64
    assert report.samples[1].work[0].flops == 4 * 2 * 16 * (32 * 33 // 2)
    assert report.samples[3].work[0].hbm_bytes == 2 * 8192


def test_cpu_ranks_have_the_host() -> None:
    assert isinstance(open_probe("cpu", 3), HostProbe)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU, and torch sees none here")
def test_a_gpus_events_time_the_device_and_not_the_host() -> None:
    made = open_probe("cuda", 0)
    assert isinstance(made, CudaProbe)
    a = torch.randn(4096, 4096, device=made.device).to(torch.bfloat16)
    large, small = made.time_us(lambda: a @ a, 5000.0), made.time_us(lambda: a[:64] @ a, 5000.0)
    assert 50.0 < large < 5000.0  # 137 GFLOP
    assert small < large
    report = measure_kernels(Session(), PLAN._replace(machine="cuda"))  # type: ignore[arg-type]
    assert all(0 < sample.us < 1e4 for sample in report.samples)
