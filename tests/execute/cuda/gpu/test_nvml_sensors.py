"""A GPU's sensors through a stand-in for pynvml."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from dwdp_lab.execute.cuda.gpu.nvml import Sensors, find_sensors


class NVMLError(Exception):
    pass


def nvml(missing: tuple[str, ...] = (), links: tuple[int, int] = (0, 0)) -> Any:
    counters = {138: links[0], 139: links[1], 186: 345_600}

    def answer(name: str, value: Any) -> Any:
        def call(*_: Any) -> Any:
            if name in missing:
                raise NVMLError(name)
            return value

        return call

    def fields(_: Any, wanted: list[Any]) -> list[Any]:
        if "fields" in missing:
            raise NVMLError
        numbers = [each[0] if isinstance(each, tuple) else each for each in wanted]
        lacking = {138: "links", 139: "links", 186: "instant power"}
        return [
            SimpleNamespace(
                nvmlReturn=3 if lacking[each] in missing else 0,
                value=SimpleNamespace(ullVal=counters[each], uiVal=counters[each]),
            )
            for each in numbers
        ]

    return SimpleNamespace(
        NVMLError=NVMLError,
        NVML_CLOCK_SM=1,
        counters=counters,
        nvmlInit=answer("init", None),
        nvmlDeviceGetHandleByUUID=answer("uuid", "gpu"),
        nvmlDeviceGetPowerUsage=answer("power", 301_000),
        nvmlDeviceGetClockInfo=answer("clock", 1755),
        nvmlDeviceGetUtilizationRates=answer("busy", SimpleNamespace(gpu=97)),
        nvmlDeviceGetCurrentClocksEventReasons=answer("reasons", 0x1 | 0x4 | 0x40),
        nvmlDeviceGetFieldValues=fields,
    )


def test_a_look_at_all_sensors() -> None:
    library = nvml(links=(1000, 5000))
    sensors = Sensors(library, "gpu")
    first = sensors.look(now_ns=1_000_000, start_ns=400_000)
    assert (first.at_us, first.sm_mhz, first.power_w, first.utilisation_pct) == (600.0, 1755.0, 345.6, 97.0)
    assert first.throttled == ("software power cap", "hardware thermal")
    assert (first.nvlink_sent_gbps, first.nvlink_received_gbps) == (None, None)  # a rate needs two looks
    library.counters.update({138: 1000 + 2**20, 139: 5000})
    second = sensors.look(now_ns=1_000_000 + 2**20, start_ns=400_000)
    assert (second.nvlink_sent_gbps, second.nvlink_received_gbps) == (1024.0, 0.0)  # a KiB per ns
    sensors.begin()
    assert sensors.look(now_ns=3_000_000, start_ns=0).nvlink_sent_gbps is None


@pytest.mark.parametrize(
    "missing", [("power", "instant power"), ("clock", "busy"), ("reasons",), ("fields",), ("links",)]
)
def test_what_a_gpu_does_not_tell_is_none(missing: tuple[str, ...]) -> None:
    sensors = Sensors(nvml(missing), "gpu")
    sensors.look(0, 0)
    look = sensors.look(1000, 0)
    assert (look.power_w is None) == ("power" in missing)
    assert (look.sm_mhz is None) == ("clock" in missing)
    assert (look.utilisation_pct is None) == ("busy" in missing)
    assert (look.throttled == ()) == ("reasons" in missing)
    assert (look.nvlink_sent_gbps is None) == bool({"fields", "links"} & set(missing))


@pytest.mark.parametrize(("missing", "watts"), [("nothing", 345.6), ("instant power", 301.0), ("fields", 301.0)])
def test_power_is_that_of_the_moment_where_the_gpu_tells_it(missing: str, watts: float) -> None:
    """The other answer is a mean over a second: older than most runs."""
    assert Sensors(nvml((missing,)), "gpu").look(0, 0).power_w == watts


def test_sensors_are_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # as if it were not installed
    assert find_sensors("GPU-1") is None
    monkeypatch.setitem(sys.modules, "pynvml", nvml(("init",)))
    assert find_sensors("GPU-1") is None
    monkeypatch.setitem(sys.modules, "pynvml", nvml(("uuid",)))  # a part of a GPU (MIG) has a name of another kind
    assert find_sensors("GPU-1") is None
    monkeypatch.setitem(sys.modules, "pynvml", nvml())
    found = find_sensors("GPU-1")
    assert found is not None
    assert found.look(0, 0).sm_mhz == 1755.0
