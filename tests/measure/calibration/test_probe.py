"""Probes: medians of enough timings, and the same figures whichever device."""

from __future__ import annotations

import pytest
import torch

from dwdp_lab.measure.calibration import probe
from dwdp_lab.measure.calibration.calibration_plan import SETTLE_US
from dwdp_lab.measure.calibration.kernels_plan import Core, KernelPlan, Product
from dwdp_lab.measure.calibration.kernels_rank import measure_kernels
from dwdp_lab.measure.calibration.probe import FEWEST, MOST, QUEUED_US, CudaProbe, HostProbe, open_probe


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


def test_work_settles_for_as_long_as_asked_before_it_is_timed(clock: Clock) -> None:
    took = [200.0] * 10 + [230.0] * 100  # the clock falls after 2 ms of load
    assert HostProbe().time_us(lambda: clock.work(*took), 1000.0) == 200.0
    clock.calls = 0
    assert HostProbe().time_us(lambda: clock.work(*took), 1000.0, settle_us=2000.0) == 230.0


class Gpu:
    """Instead of a GPU: one whose clock falls after 50 ms without a pause, and recovers while the host waits for it.

    `now_us` is the device's time; `waits` are the moments at which the host waited.
    """

    def __init__(self) -> None:
        self.now_us = self.busy_us = 0.0
        self.waits: list[float] = []

    def _sleep(self, cycles: int) -> None:
        self.now_us += cycles / 2e3
        self.busy_us = 0.0

    def synchronize(self) -> None:
        self.waits.append(self.now_us)
        self.busy_us = 0.0

    def work(self, us: float) -> None:
        took = us * (1.15 if self.busy_us >= 50_000.0 else 1.0)
        self.now_us += took
        self.busy_us += took

    def event(self, enable_timing: bool) -> Mark:
        assert enable_timing
        return Mark(self)


class Mark:
    """An event of such a GPU."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu, self.at_us = gpu, 0.0

    def record(self) -> None:
        self.at_us = self.gpu.now_us

    def synchronize(self) -> None:
        self.gpu.synchronize()

    def elapsed_time(self, end: Mark) -> float:
        return (end.at_us - self.at_us) / 1e3


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    made = Gpu()
    for name in ("_sleep", "synchronize"):
        monkeypatch.setattr(torch.cuda, name, getattr(made, name))
    monkeypatch.setattr(torch.cuda, "Event", made.event)
    return made


def test_long_work_on_a_gpu_is_timed_at_the_clock_it_keeps_up(gpu: Gpu) -> None:
    made = CudaProbe(torch.device("cuda", 0))
    for us in (QUEUED_US, 400.0, 20_000.0):
        assert made.time_us(lambda us=us: gpu.work(us), 80_000.0, SETTLE_US) == pytest.approx(1.15 * us)  # type: ignore[misc]
        begun = gpu.waits[-2]  # nothing was waited for in between
        assert gpu.now_us - begun >= 0.99 * (SETTLE_US + max(80_000.0, FEWEST * us))


def test_short_work_on_a_gpu_is_timed_one_by_one(gpu: Gpu) -> None:
    """The host would not get ahead of it, and its own time would count."""
    assert CudaProbe(torch.device("cuda", 0)).time_us(lambda: gpu.work(10.0), 1e6, SETTLE_US) == pytest.approx(10.0)
    assert len(gpu.waits) >= MOST


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
