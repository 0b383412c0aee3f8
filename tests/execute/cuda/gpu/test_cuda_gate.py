"""Gates open at the agreed moment, in a thread of their own, and at the latest when queueing fails."""

from __future__ import annotations

import ctypes
import threading
import time
from typing import Any

import pytest

from dwdp_lab.execute.cuda.gpu.copy_calls import CudaCallFailed
from dwdp_lab.execute.cuda.gpu.gate import FlagGate, opened_at

FAR_NS = 3600 * 10**9


class Gate:
    def __init__(self) -> None:
        self.opened = threading.Event()
        self.at_ns = 0
        self.by: list[threading.Thread] = []

    def open(self) -> None:
        if not self.opened.is_set():
            self.at_ns = time.monotonic_ns()
        self.by.append(threading.current_thread())
        self.opened.set()


def test_it_opens_at_its_moment_and_not_before() -> None:
    gate, moment = Gate(), time.monotonic_ns() + 20_000_000
    with opened_at(gate, moment):
        assert not gate.opened.is_set()
    assert gate.at_ns >= moment


def test_another_thread_opens_it_while_this_one_is_stuck() -> None:
    """As where a stream's queue is full: the call that queues returns when the GPU has gone on."""
    gate = Gate()
    with opened_at(gate, time.monotonic_ns() + 1_000_000):
        assert gate.opened.wait(60)
    assert gate.by[0] is not threading.main_thread()


def test_it_opens_at_once_when_queueing_fails() -> None:
    gate = Gate()
    with pytest.raises(ZeroDivisionError), opened_at(gate, time.monotonic_ns() + FAR_NS):
        raise ZeroDivisionError
    assert gate.opened.is_set()


def test_without_a_gate_nothing_is_queued_before_the_moment() -> None:
    moment = time.monotonic_ns() + 5_000_000
    with opened_at(None, moment):
        assert time.monotonic_ns() >= moment


class Driver:
    """As much of cuda.bindings.driver as a gate uses; the call of this number fails."""

    class CUstreamWaitValue_flags:  # noqa: N801 - the bindings' name
        CU_STREAM_WAIT_VALUE_GEQ = 0

    def __init__(self, fail_at: int | None = None) -> None:
        self.waits: list[tuple[Any, ...]] = []
        self.fail_at = fail_at

    def cuStreamWaitValue32(self, *arguments: Any) -> tuple[int]:  # noqa: N802 - the bindings' name
        self.waits.append(arguments)
        return (801 if len(self.waits) - 1 == self.fail_at else 0,)


def flag() -> tuple[ctypes.c_uint32, tuple[int, int]]:
    word = ctypes.c_uint32(77)
    return word, (ctypes.addressof(word), 4096)


def test_streams_wait_for_the_flag_until_it_is_set() -> None:
    word, addresses = flag()
    driver = Driver()
    gate = FlagGate(driver, addresses, [11, 12, 13])
    assert driver.waits == [(stream, 4096, 1, 0) for stream in (11, 12, 13)]
    assert word.value == 0
    gate.open()
    assert word.value == 1


def test_streams_that_wait_already_are_let_go_when_another_cannot_be_held() -> None:
    word, addresses = flag()
    with pytest.raises(CudaCallFailed, match="holding a stream"):
        FlagGate(Driver(fail_at=1), addresses, [11, 12, 13])
    assert word.value == 1
