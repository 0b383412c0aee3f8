"""A gate on a GPU: a word of pinned host memory that streams wait for, so that work is queued before it may start.

All ranks open theirs at one agreed moment. The thread that queues work must not be the one that opens: a full queue, or
a first launch that loads code, blocks it until the GPU has gone on.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from dwdp_lab.execute.cuda.gpu.copy_calls import check
from dwdp_lab.execute.cuda.gpu.device import Device, Gate, Stream


class FlagGate:
    """`driver` is `cuda.bindings.driver`; `flag` the host's and the device's address of a 32-bit word, now 0."""

    OPEN = 1

    def __init__(self, driver: Any, flag: tuple[int, int], streams: Sequence[int]) -> None:
        host, device = flag
        self._word = ctypes.c_uint32.from_address(host)
        self._word.value = 0
        at_least = int(driver.CUstreamWaitValue_flags.CU_STREAM_WAIT_VALUE_GEQ)
        try:
            for stream in streams:
                check(driver.cuStreamWaitValue32(stream, device, self.OPEN, at_least), "holding a stream at the gate")
        except BaseException:
            self.open()
            raise

    def open(self) -> None:
        self._word.value = self.OPEN


@contextlib.contextmanager
def opened_at(gate: Gate | None, start_ns: int) -> Iterator[None]:
    """The gate opens at `start_ns` of the monotonic clock, in a thread of its own, and at the latest when this ends.

    Without a gate this waits for that moment before anything is queued.
    """
    if gate is None:
        _sleep_until(start_ns, threading.Event())
        yield
        return
    ended = threading.Event()

    def wait_and_open() -> None:
        _sleep_until(start_ns, ended)
        gate.open()

    opener = threading.Thread(target=wait_and_open, name="gate", daemon=True)
    try:
        opener.start()
        yield
    except BaseException:
        ended.set()
        raise
    finally:
        if not ended.is_set():
            opener.join()  # all is queued, and the moment may still lie ahead
        gate.open()


def hold_until(device: Device, streams: Sequence[Stream], start_ns: int) -> contextlib.AbstractContextManager[None]:
    """What is queued on the streams within this context starts at `start_ns`, or as soon after as it is queued."""
    return opened_at(device.hold(streams), start_ns)


def _sleep_until(moment_ns: int, ended: threading.Event) -> None:
    """Sleep most of the time, then watch the clock: sleeping alone comes back up to 0.1 ms late."""
    close_ns = 200_000
    while (left_ns := moment_ns - time.monotonic_ns()) > close_ns:
        if ended.wait((left_ns - close_ns) / 1e9):
            return
    while time.monotonic_ns() < moment_ns:
        pass
