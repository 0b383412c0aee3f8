"""Clock, power and NVLink traffic of a GPU beside the spans, through NVIDIA's management library.

The package `nvidia-ml-py` is optional: without it a run goes on and says so (sensor_process.py). A GPU that lacks
a sensor gives None.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

from dwdp_lab.execute.gpu_sample import GpuSample

THROTTLE_REASONS = {
    "software power cap": 0x4,
    "hardware slowdown": 0x8,
    "synchronised boost": 0x10,
    "software thermal": 0x20,
    "hardware thermal": 0x40,
    "power brake": 0x80,
}
"""The bits that NVML calls nvmlClocksEventReason...; idle (0x1) and set clocks (0x2, 0x100) are no throttling."""

INSTANT_POWER = 186
"""NVML_FI_DEV_POWER_INSTANT, in milliwatts. What nvmlDeviceGetPowerUsage says is a mean over a second on GPUs since
Ampere, longer than most runs here (NVML's documentation of that call)."""

SENT_KIB, RECEIVED_KIB, ALL_LINKS = 138, 139, 0xFFFFFFFF
"""NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX and _RX count KiB of data; this scope adds up all links."""


class _Counters(NamedTuple):
    at_ns: int
    sent: float
    received: float


class Sensors:
    """One GPU's sensors. `nvml` is the module pynvml, `handle` the GPU's."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle
        self._before: _Counters | None = None

    def begin(self) -> None:
        """The next look is the first one: it has no rates, which would be means over all that was since the last."""
        self._before = None

    def look(self, now_ns: int, start_ns: int) -> GpuSample:
        """One sample; `start_ns` is where the run's clock begins."""
        nvml, gpu = self._nvml, self._handle
        sent, received = self._rates(now_ns)
        return GpuSample(
            at_us=(now_ns - start_ns) / 1e3,
            sm_mhz=self._ask(lambda: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM)),
            power_w=self._power_w(),
            utilisation_pct=self._ask(lambda: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu),
            throttled=self._throttled(),
            nvlink_sent_gbps=sent,
            nvlink_received_gbps=received,
        )

    def _power_w(self) -> float | None:
        instant = self._fields([INSTANT_POWER])
        if instant is not None:
            return float(instant[0].uiVal) / 1e3
        mean = self._ask(lambda: self._nvml.nvmlDeviceGetPowerUsage(self._handle))
        return None if mean is None else mean / 1e3

    def _ask(self, question: Callable[[], float]) -> float | None:
        try:
            return float(question())
        except self._nvml.NVMLError:
            return None

    def _throttled(self) -> tuple[str, ...]:
        ask = getattr(self._nvml, "nvmlDeviceGetCurrentClocksEventReasons", None)
        ask = ask or self._nvml.nvmlDeviceGetCurrentClocksThrottleReasons
        found = self._ask(lambda: ask(self._handle))
        return tuple(name for name, bit in THROTTLE_REASONS.items() if found is not None and int(found) & bit)

    def _rates(self, now_ns: int) -> tuple[float | None, float | None]:
        counters = self._counters(now_ns)
        before, self._before = self._before, counters
        if before is None or counters is None or counters.at_ns <= before.at_ns:
            return None, None
        per_kib = 1024 / (counters.at_ns - before.at_ns)
        return (counters.sent - before.sent) * per_kib, (counters.received - before.received) * per_kib

    def _counters(self, now_ns: int) -> _Counters | None:
        values = self._fields([(SENT_KIB, ALL_LINKS), (RECEIVED_KIB, ALL_LINKS)])
        return None if values is None else _Counters(now_ns, *(float(value.ullVal) for value in values))

    def _fields(self, wanted: list[Any]) -> list[Any] | None:
        """NVML's values of these fields; None when the GPU does not tell one of them."""
        try:
            found = self._nvml.nvmlDeviceGetFieldValues(self._handle, wanted)
        except self._nvml.NVMLError:
            return None
        return None if any(one.nvmlReturn != 0 for one in found) else [one.value for one in found]


def find_sensors(uuid: str) -> Sensors | None:
    """The sensors of the GPU with this UUID; None where NVML or its Python package is missing."""
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
        return Sensors(nvml, nvml.nvmlDeviceGetHandleByUUID(uuid))
    except nvml.NVMLError:
        return None
