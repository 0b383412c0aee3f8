"""A GPU's sensors, read in a process of their own. No torch.

A rank once ended with SIGSEGV in a call of NVIDIA's library (driver 580, ten processes that looked at two GPUs; 68,000
looks of twelve processes made for it did not show it again): no reading of a clock is worth a run, or the kernel of a
notebook. Nor do the looks, which take up to some milliseconds, take turns at a rank's interpreter with what queues its
work.

It is `python -m dwdp_lab.execute.cuda.gpu.sensor_process UUID`, which has one thread, gets its orders by its standard
input, answers with lines on its standard output, and ends when its input does, whatever happens to the rank.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import wait

from dwdp_lab.execute.cuda.gpu.nvml import Sensors, find_sensors
from dwdp_lab.execute.failures import how_it_ended
from dwdp_lab.execute.gpu_sample import GpuSample

START, STOP, LOOK = "b", "e", "l"  # a byte each, so that none can lie in a buffer while the process waits for the next
HAS_SENSORS, HAS_NONE = "sensors", "none"
PERIOD_S = 0.01
ANSWER_S = 10.0
"""It answers within milliseconds; the first time it has to be loaded before."""
END_S = 1.0
"""It ends within milliseconds, unless it hangs in the driver, where nobody can kill it."""
NO_NVML = (
    "no clocks and power: NVIDIA's management library or its Python package nvidia-ml-py is not here, or does not know "
    "the GPU"
)

NOTHING_KNOWN = GpuSample(0.0, None, None, None, (), None, None)


class SensorProcess:
    """Looks at one GPU's sensors between `start` and `stop`, or when asked to. The process is started at once, and anew
    if it has ended.

    Nothing that happens to it raises anything here: `note` says why the last `stop` or `look` had nothing to give; None
    when it had. `command` is for tests.
    """

    def __init__(self, uuid: str, command: Sequence[str] | None = None) -> None:
        # -P: a file called signal.py in the user's folder must not become the standard library's
        self._command = [sys.executable, "-P", "-m", __name__, uuid] if command is None else list(command)
        self.note: str | None = None
        self._process: subprocess.Popen[str] | None = None
        self._greeted = False
        self._begin()

    def _begin(self) -> None:
        pipe, self._greeted = subprocess.PIPE, False
        try:
            self._process = subprocess.Popen(self._command, stdin=pipe, stdout=pipe, text=True, encoding="utf-8")
        except OSError as error:  # as where a container allows no more processes
            self._lack(f"cannot be started: {error}")

    def start(self) -> None:
        """Begin to look; earlier samples are forgotten."""
        self._wake()
        self._say(START)

    def _wake(self) -> None:
        if self.note == NO_NVML:
            return  # nor will there be any next time
        self.note = None
        if self._process is None:
            self._begin()
        if self._process is not None and not self._greeted:
            self._greeted = True
            if self._answer() == HAS_NONE:
                self._end(patient=True)
                self.note = NO_NVML

    def stop(self, start_ns: int) -> tuple[GpuSample, ...]:
        """What was seen since `start`, on a clock that begins at `start_ns` of the monotonic one, which all processes
        share. Empty, and `note` says why, when there are no sensors or the process has ended."""
        return tuple(look._replace(at_us=look.at_us - start_ns / 1e3) for look in self._ask(STOP))

    def look(self) -> GpuSample:
        """What the sensors say now, and the rates since the last look; not between `start` and `stop`. Nothing is known
        of a GPU without sensors, or when the process has ended."""
        self._wake()
        return next(iter(self._ask(LOOK)), NOTHING_KNOWN)

    def _ask(self, word: str) -> list[GpuSample]:
        self._say(word)
        answer = self._answer()
        return [] if answer is None else [_sample(values) for values in json.loads(answer)]

    def _say(self, word: str) -> None:
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError):  # it has ended, as its missing answer tells
                print(word, end="", file=self._process.stdin, flush=True)

    def _answer(self) -> str | None:
        """Its next line; None when it has ended or says nothing, and then it is no more."""
        if self._process is None or self._process.stdout is None:
            return None
        # not by select.select, which takes no descriptor above 1023
        told = bool(wait([self._process.stdout.fileno()], ANSWER_S))
        line = self._process.stdout.readline() if told else ""
        if line.endswith("\n"):
            return line.strip()
        how = self._end(patient=told)
        self._lack(how if told else f"gave no answer for {ANSWER_S:g} s")
        return None

    def _lack(self, why: str) -> None:
        self.note = f"no clocks and power: the process that reads them {why}"

    def _end(self, patient: bool) -> str:
        """Let go of the process, `patient` once it is about to end by itself; says how it ended."""
        process, self._process = self._process, None
        if process is None:
            return "was not there"
        if not patient:
            process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        for _ in range(2):
            with suppress(subprocess.TimeoutExpired):
                return f"has failed ({how_it_ended(process.wait(END_S))})"
            process.kill()
        return "hangs and cannot be killed"

    def close(self) -> None:
        """End the process, and do not leave it to others to notice that it has ended."""
        self._end(patient=False)


def _sample(values: Sequence[object]) -> GpuSample:
    sample = GpuSample(*values)  # type: ignore[arg-type]
    return sample._replace(throttled=tuple(sample.throttled))


def main(uuid: str) -> None:
    """Look when told to, until nobody is there to tell, or at once where there is nothing to look at."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; this process ends when its input does
    sensors = find_sensors(uuid)
    print(HAS_NONE if sensors is None else HAS_SENSORS, flush=True)
    if sensors is not None:
        serve(sensors, sys.stdin.fileno())


def serve(sensors: Sensors, orders: int) -> None:
    """Look at the sensors between a START and a STOP that come in by this descriptor, or at a LOOK, and print what was
    seen as a list of samples; until the other end is closed."""
    looks: list[GpuSample] | None = None
    while True:
        if wait([orders], None if looks is None else PERIOD_S):
            order = os.read(orders, 1).decode()
            if not order:
                return
            if order == LOOK:
                print(json.dumps([sensors.look(time.monotonic_ns(), 0)]), flush=True)
                continue
            if order == STOP:
                print(json.dumps(looks or []), flush=True)
            looks = [] if order == START else None
            sensors.begin()
        if looks is not None:
            looks.append(sensors.look(time.monotonic_ns(), 0))


if __name__ == "__main__":
    main(sys.argv[1])
