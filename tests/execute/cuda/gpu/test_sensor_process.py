"""Sensors in a process of their own, with a stand-in for pynvml that crashes when told to."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from dwdp_lab.execute.cuda.gpu import sensor_process
from dwdp_lab.execute.cuda.gpu.sensor_process import NO_NVML, NOTHING_KNOWN, SensorProcess

STAND_IN = """
import os, pathlib, signal
from types import SimpleNamespace
HERE = pathlib.Path(__file__).parent
NVML_CLOCK_SM = 1
class NVMLError(Exception): pass
def nvmlInit(): pass
def nvmlDeviceGetHandleByUUID(uuid):
    if uuid != "GPU-7": raise NVMLError
def nvmlDeviceGetClockInfo(gpu, which): return 1755
def nvmlDeviceGetPowerUsage(gpu): return 301000
def nvmlDeviceGetUtilizationRates(gpu): return SimpleNamespace(gpu=97)
def nvmlDeviceGetCurrentClocksEventReasons(gpu): return 4
def nvmlDeviceGetFieldValues(gpu, wanted):
    if (HERE / "crash").exists(): os.kill(os.getpid(), signal.SIGSEGV)
    raise NVMLError
"""


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the process finds pynvml in; a file `crash` in it makes every look crash."""
    (tmp_path / "pynvml.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    return tmp_path


@contextmanager
def opened(uuid: str = "GPU-7", *command: str) -> Iterator[SensorProcess]:
    sensors = SensorProcess(uuid, command or None)
    try:
        yield sensors
    finally:
        sensors.close()


def _processes() -> list[psutil.Process]:
    return [one for one in psutil.Process().children(recursive=True) if one.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.usefixtures("library")
def test_samples_come_on_the_run_s_clock_again_and_again() -> None:
    before = len(_processes())
    with opened() as sensors:
        for _ in range(2):
            start_ns = time.monotonic_ns()
            sensors.start()
            time.sleep(0.05)
            samples = sensors.stop(start_ns)
            ended_us = (time.monotonic_ns() - start_ns) / 1e3
            assert samples
            assert sensors.note is None
            assert all(0.0 < one.at_us < ended_us for one in samples)
            assert samples[0]._replace(at_us=0.0) == (0.0, 1755.0, 301.0, 97.0, ("software power cap",), None, None)
    assert len(_processes()) == before


def test_it_looks_when_asked_and_knows_nothing_after_a_crash(library: Path) -> None:
    with opened() as sensors:
        assert [sensors.look().sm_mhz for _ in range(3)] == [1755.0] * 3
        (library / "crash").touch()
        assert sensors.look() == NOTHING_KNOWN
        assert sensors.note is not None
        assert "SIGSEGV" in sensors.note
        (library / "crash").unlink()
        assert sensors.look().power_w == 301.0
        sensors.start()  # both ways in turn
        assert sensors.stop(0)
    with opened("GPU-8") as sensors:
        assert [sensors.look() for _ in range(2)] == [NOTHING_KNOWN] * 2


def test_a_crash_costs_a_run_its_samples_and_nothing_more(library: Path) -> None:
    with opened() as sensors:
        sensors.start()
        assert sensors.stop(0)
        (library / "crash").touch()
        sensors.start()
        time.sleep(0.05)
        assert sensors.stop(0) == ()
        assert sensors.note == "no clocks and power: the process that reads them has failed (killed by SIGSEGV)"
        (library / "crash").unlink()
        sensors.start()
        assert sensors.stop(0)
        assert sensors.note is None


@pytest.mark.usefixtures("library")
def test_without_sensors_it_says_so_and_keeps_no_process() -> None:
    before = len(_processes())
    with opened("GPU-8") as sensors:
        for _ in range(2):
            sensors.start()
            assert sensors.stop(0) == ()
            assert sensors.note == NO_NVML
            assert len(_processes()) == before


@pytest.mark.usefixtures("library")
def test_short_runs_follow_each_other() -> None:
    """The two orders of a run may both be there before the process has read the first."""
    with opened() as sensors:
        for _ in range(20):
            sensors.start()
            sensors.stop(0)
            assert sensors.note is None


@pytest.mark.usefixtures("library")
def test_what_lies_in_the_folder_is_not_taken_for_python_s_own(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("signal")
    (folder / "signal.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(folder)
    with opened() as sensors:
        sensors.start()
        assert sensors.stop(0)


@pytest.mark.usefixtures("library")
def test_a_rank_may_have_many_files_open() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits[1] != resource.RLIM_INFINITY and limits[1] < 2048:
        pytest.skip(f"a process may have no more than {limits[1]} files open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limits[0], 2048), limits[1]))
    many = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        with opened() as sensors:
            sensors.start()
            assert sensors.stop(0)
    finally:
        for fd in many:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_where_no_process_can_be_started_a_run_goes_on(tmp_path: Path) -> None:
    with opened("GPU-7", str(tmp_path / "nothing")) as sensors:
        for _ in range(2):
            sensors.start()
            assert sensors.stop(0) == ()
            assert sensors.note is not None
            assert sensors.note.startswith("no clocks and power: the process that reads them cannot be started: ")


@pytest.mark.usefixtures("library")
def test_a_process_that_nobody_can_kill_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(_: object, timeout: float | None = None) -> Any:
        assert timeout is not None, "the rank would wait for ever"
        raise subprocess.TimeoutExpired("sensors", timeout)

    with opened() as sensors:
        sensors.start()
        process = sensors._process
        assert process is not None
        with monkeypatch.context() as patch:
            patch.setattr(subprocess.Popen, "wait", hang)
            sensors.close()
        process.wait()


def test_a_process_that_cannot_start_is_named() -> None:
    with opened("GPU-7", sys.executable, "-c", "raise SystemExit(3)") as sensors:
        sensors.start()
        assert sensors.stop(0) == ()
        assert sensors.note == "no clocks and power: the process that reads them has failed (ended with exit code 3)"


def test_a_process_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensor_process, "ANSWER_S", 0.5)
    before = len(_processes())
    with opened("GPU-7", sys.executable, "-c", "import sys; print('sensors', flush=True); sys.stdin.read()") as sensors:
        sensors.start()
        assert sensors.stop(0) == ()
        assert sensors.note == "no clocks and power: the process that reads them gave no answer for 0.5 s"
        assert len(_processes()) == before


@pytest.mark.usefixtures("library")
def test_it_ends_with_the_process_that_started_it() -> None:
    """Even if that is killed."""
    code = (
        "import os, signal, sys; from dwdp_lab.execute.cuda.gpu.sensor_process import SensorProcess\n"
        "one = SensorProcess('GPU-7'); one.start(); print(one._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    with psutil.Popen([sys.executable, "-c", code], stdout=-1, text=True) as caller:
        pid = int(caller.stdout.readline())
    deadline = time.monotonic() + 20
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "it goes on"
        time.sleep(0.01)
