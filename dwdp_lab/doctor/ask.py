"""Running one probe in a process of its own, which may hang, crash or be killed without harm to us."""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, Any, NamedTuple

POLL_S = 0.2  # how soon a stop is noticed
KILLED_S = 1.0  # a killed process ends within this, unless it hangs in the kernel (a broken driver)
PACKAGES = str(Path(__file__).parents[2])


class Answer(NamedTuple):
    """Facts, or else why there are none."""

    facts: Any
    trouble: str = ""


def ask(probe: str, limit_s: float, stopped: threading.Event | None = None) -> Answer:
    """What the module `probe` finds. Takes `limit_s` and a second at most, whatever the probe does."""
    deadline = time.monotonic() + limit_s
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as log, os.fdopen(reading, "rb", buffering=0) as answer:
        try:
            process = subprocess.Popen(
                # -P: a file called random.py in the user's folder must not become the standard library's
                [sys.executable, "-P", "-m", "dwdp_lab.doctor.ask", probe, str(writing)],
                env={**os.environ, "PYTHONPATH": os.pathsep.join([PACKAGES, *_given_path()])},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(writing,),
                start_new_session=True,  # so that it can be killed with all that it started
            )
        finally:
            os.close(writing)
        data = _read(answer, deadline, stopped or threading.Event())
        ended = _end(process, patient=data == b"")
        if data is None:
            return Answer(None, f"no answer within {limit_s:.0f} s{_last_line(log)}")
        if not data:
            return Answer(None, f"its process {ended}{_last_line(log)}")
        found: Answer = pickle.loads(data)  # from our own child over our own pipe
        return found


def _given_path() -> list[str]:
    return [path for path in [os.environ.get("PYTHONPATH")] if path]


def _read(answer: IO[bytes], deadline: float, stopped: threading.Event) -> bytes | None:
    """All that comes until the other end closes; None when the time is over first."""
    data = b""
    with selectors.DefaultSelector() as selector:
        selector.register(answer, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0 and not stopped.is_set():
            if selector.select(min(left, POLL_S)):
                part = answer.read(1 << 16)
                if not part:
                    return data
                data += part
    return None


def _end(process: subprocess.Popen[bytes], patient: bool) -> str:
    """Kill the process and what it started; how it ended. `patient` lets it end by itself first."""
    from dwdp_lab.execute.failures import how_it_ended

    for wait_s in (KILLED_S if patient else 0.0, KILLED_S):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(wait_s)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    return "hangs and cannot be killed" if process.returncode is None else how_it_ended(process.returncode)


def _last_line(log: IO[bytes]) -> str:
    log.seek(0)
    lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    return f" ({lines[-1][:200]})" if lines else ""


def main() -> None:
    """The probe's process: `python -m dwdp_lab.doctor.ask MODULE [DESCRIPTOR]`; by hand, without, it prints."""
    module = sys.argv[1]
    if len(sys.argv) == 2:
        print(importlib.import_module(module).probe())
        return
    writing = int(sys.argv[2])
    os.set_inheritable(writing, False)  # or our own children would keep the pipe open
    try:
        answer = Answer(importlib.import_module(module).probe())
    except BaseException as error:
        answer = Answer(None, f"{type(error).__name__}: {error}".strip())
    with os.fdopen(writing, "wb") as out:
        # by its imported name: here this module is __main__
        pickle.dump(importlib.import_module("dwdp_lab.doctor.ask").Answer(*answer), out)


if __name__ == "__main__":
    main()
