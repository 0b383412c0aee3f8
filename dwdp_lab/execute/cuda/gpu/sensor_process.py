"""A GPU's sensors, read in a process of their own. No torch.

A rank once ended with SIGSEGV in a call of NVIDIA's library (driver 580, ten processes that looked at two GPUs; 68,000
looks of twelve processes made for it did not show it again): no reading of a clock is worth a run. Nor do the looks,
which take up to some milliseconds, take turns at a rank's interpreter with what queues its work.

It is `python -m dwdp_lab.execute.cuda.gpu.sensor_process UUID`, which answers each line on its standard input that asks
for something with one line on its standard output, and ends when its input does, whatever happens to the rank.
"""

from __future__ import annotations

import json
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress

from dwdp_lab.execute.cuda.gpu.nvml import Sampler, find_sensors
from dwdp_lab.execute.gpu_sample import GpuSample

START, STOP = "start", "stop"
HAS_SENSORS, HAS_NONE = "sensors", "none"
ANSWER_S = 10.0
"""It answers within milliseconds; the first time it has to be loaded before."""
NO_NVML = (
    "no clocks and power: NVIDIA's management library or its Python package nvidia-ml-py is not here, or does not know "
    "the GPU"
)


class SensorProcess:
    """Looks at one GPU's sensors between `start` and `stop`. The process is started at once, and anew if it has ended.

    `note` says why the last `stop` had nothing to give; None when it had. `command` is for tests.
    """

    def __init__(self, uuid: str, command: Sequence[str] | None = None) -> None:
        self._command = [sys.executable, "-m", __name__, uuid] if command is None else list(command)
        self.note: str | None = None
        self._process: subprocess.Popen[str] | None = None
        self._begin()

    def _begin(self) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(self._command, stdin=pipe, stdout=pipe, text=True, encoding="utf-8")
        self._greeted = self._lacking = False

    def start(self) -> None:
        """Begin to look; earlier samples are forgotten."""
        if self._process is None:
            self._begin()
        self.note = None
        if not self._greeted:
            self._greeted, self._lacking = True, self._answer() == HAS_NONE
        if self._lacking:
            self.note = NO_NVML
        else:
            self._say(START)

    def stop(self, start_ns: int) -> tuple[GpuSample, ...]:
        """What was seen since `start`, on a clock that begins at `start_ns` of the monotonic one, which all processes
        share. Empty, and `note` says why, when there are no sensors or the process has ended."""
        if self._lacking:
            return ()
        self._say(STOP)
        answer = self._answer()
        looks = [] if answer is None else [_sample(values) for values in json.loads(answer)]
        return tuple(look._replace(at_us=look.at_us - start_ns / 1e3) for look in looks)

    def _say(self, word: str) -> None:
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError):  # it has ended, as its missing answer tells
                print(word, file=self._process.stdin, flush=True)

    def _answer(self) -> str | None:
        """Its next line; None when it has ended or says nothing, and then it is no more."""
        if self._process is None or self._process.stdout is None:
            return None
        ready, _, _ = select.select([self._process.stdout], [], [], ANSWER_S)
        line = self._process.stdout.readline() if ready else ""
        if line.endswith("\n"):
            return line.strip()
        self.note = f"no clocks and power: the process that reads them {self._end(kill=not ready)}"
        return None

    def _end(self, kill: bool) -> str:
        """Let go of the process; says how it ended."""
        process, self._process = self._process, None
        if process is None:
            return "was not there"
        if kill:
            process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        code = process.wait()
        if kill:
            return f"gave no answer for {ANSWER_S:g} s"
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"

    def close(self) -> None:
        """End the process."""
        self._end(kill=True)


def _sample(values: Sequence[object]) -> GpuSample:
    sample = GpuSample(*values)  # type: ignore[arg-type]
    return sample._replace(throttled=tuple(sample.throttled))


def main(uuid: str) -> None:
    """Look when told to, until nobody is there to tell."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; this process ends when its input does
    sensors = find_sensors(uuid)
    print(HAS_NONE if sensors is None else HAS_SENSORS, flush=True)
    sampler = None if sensors is None else Sampler(sensors)
    for line in sys.stdin:
        if sampler is None:
            continue
        if line.strip() == START:
            sampler.start()
        else:
            print(json.dumps(sampler.stop(0)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
