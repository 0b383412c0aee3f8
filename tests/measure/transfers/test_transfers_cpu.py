"""CPU ranks' copies, with ranks as threads of this process: what is timed, what is touched, what a wrong copy does."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Any

import pytest
from rank_threads import ThreadSession, in_threads

from dwdp_lab.measure.transfers import transfers_cpu
from dwdp_lab.measure.transfers.transfers import Case, Plan, Report
from dwdp_lab.measure.transfers.transfers_cpu import CpuEnd
from dwdp_lab.measure.transfers.transfers_pattern import GUARD, WrongBytes
from dwdp_lab.measure.transfers.transfers_rank import measure_transfers
from dwdp_lab.program.pull_plan import Slice

KIB = 1024
CASES = (
    Case("one", ((Slice(1, 0, 0, 40 * KIB),), ())),
    Case("all", tuple(tuple(Slice(1 - r, n * KIB, n * KIB, KIB) for n in range(8)) for r in range(2)), marks=True),
    Case("apart", ((Slice(1, 0, 0, KIB),), (Slice(0, 8, 0, KIB),)), rounds=3, random_phases=True, marks=True),
    Case("own", ((), (Slice(1, 4096, 0, 4096),))),
)
PLAN = Plan("cpu", CASES, repeats=2, evict_bytes=4096)


class Line:
    """Where reports of progress go."""

    def send(self, message: Any) -> None:
        del message


def reports(plan: Plan = PLAN) -> list[Report]:
    def live(session: ThreadSession) -> Report:
        session.channel = Line()  # type: ignore[attr-defined]
        return measure_transfers(session, plan)  # type: ignore[arg-type]

    return in_threads(2, live)


def test_every_turn_of_a_rank_that_copies_gives_a_sample() -> None:
    found = reports()
    assert [sorted({s.case for s in report.samples}) for report in found] == [[0, 1, 2], [1, 2, 3]]
    for rank, report in enumerate(found):
        assert len(report.samples) == 2 * sum(bool(case.slices[rank]) for case in CASES)
        nbytes = 3 * sum(case.round_bytes(rank) for case in CASES)  # a trial and two repeats; rounds land in one place
        assert report.checked_bytes == nbytes
        for sample in report.samples:
            case = CASES[sample.case]
            assert 0 <= sample.start_us < sample.end_us
            assert len(sample.marks) == (len(case.slices[rank]) * case.rounds if case.marks else 0)
            assert list(sample.marks) == sorted(sample.marks)
            assert all(sample.start_us < mark <= sample.end_us for mark in sample.marks)


def test_memory_is_given_back() -> None:
    before = len(os.listdir("/proc/self/fd"))
    with open("/proc/self/maps") as maps:
        mapped = sum("dwdp" in line for line in maps)
    reports()
    assert len(os.listdir("/proc/self/fd")) == before
    with open("/proc/self/maps") as maps:
        assert sum("dwdp" in line for line in maps) == mapped


def flip(target: int, source: int, nbytes: int) -> None:
    ctypes.memmove(target, source, nbytes)
    if nbytes > 4096:
        ctypes.memset(target + nbytes // 2, 255 - ctypes.string_at(source + nbytes // 2, 1)[0], 1)


def forget(target: int, source: int, nbytes: int) -> None:
    if nbytes != KIB:
        ctypes.memmove(target, source, nbytes)


# None of these reads past what its source maps: the page after it may not be there, and then the process dies.


def too_much(target: int, source: int, nbytes: int) -> None:
    ctypes.memmove(target, source, nbytes)
    ctypes.memmove(target + nbytes, source, 8)


def too_early(target: int, source: int, nbytes: int) -> None:
    ctypes.memmove(target - 8, source, min(nbytes, 8))
    ctypes.memmove(target, source, nbytes)


def shifted(target: int, source: int, nbytes: int) -> None:
    whole = ctypes.string_at(source, nbytes)
    ctypes.memmove(target, whole[8:] + whole[:8], nbytes)


@pytest.mark.parametrize("copy", [flip, forget, too_much, too_early, shifted])
def test_a_copy_that_is_not_right_ends_the_measurement(
    copy: Callable[[int, int, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers_cpu, "copy_bytes", copy)
    with pytest.raises(WrongBytes) as wrong:
        reports()
    assert "case" in wrong.value.__notes__[0]


def test_a_copy_that_works_only_once_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A repeat that copies nothing would find the right bytes of the one before it, were the target not scrubbed."""
    done: set[tuple[int, int]] = set()

    def once(target: int, source: int, nbytes: int) -> None:
        if (target, source) not in done:
            done.add((target, source))
            ctypes.memmove(target, source, nbytes)

    monkeypatch.setattr(transfers_cpu, "copy_bytes", once)
    with pytest.raises(WrongBytes, match="its source holds"):
        reports()


def test_all_memory_has_been_touched_before_anything_is_timed() -> None:
    """The count sees first touches, and there are none in what is timed."""
    nbytes = 512 * 4096
    plan = Plan("cpu", (Case("one", ((Slice(1, 0, 0, nbytes),), ())),), 1)

    def live(session: ThreadSession) -> tuple[int, int]:
        end = CpuEnd(session, plan)  # type: ignore[arg-type]
        first = end.copy([Slice(1, 0, 0, nbytes)], 0, plan.cases[0]).page_faults
        # let go of the pages, and the same copy pays for them
        libc = ctypes.CDLL(None, use_errno=True)
        libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        assert libc.madvise(end._target_address, nbytes, 4) == 0  # MADV_DONTNEED
        again = end.copy([Slice(1, 0, 0, nbytes)], 0, plan.cases[0]).page_faults
        session.gather("done", None)
        end.close()
        return first, again

    first, again = in_threads(2, live)[0]
    assert first <= 4
    assert again > 20


def test_a_cpu_rank_has_one_way_to_copy() -> None:
    plan = Plan("cpu", (Case("one", ((Slice(1, 0, 0, 64),), ()), way="batched"),), 1)
    with pytest.raises(ValueError, match="not batched"):
        reports(plan)


def test_guards_are_outside_of_what_a_case_writes() -> None:
    assert GUARD % 4096 == 0
