"""Ranks that meet by copies get every row where it belongs, in any order of work that CUDA allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from adversary import Deadlock
from copy_ranks import on_copying_ranks
from copy_tasks import Task, carry_out, wrong_tasks
from hypothesis import given, settings
from hypothesis import strategies as st
from meeting_checks import check_messages_and_objects, check_rows_of_all, check_rows_to_each, check_sums_of_all
from meeting_processes import Report, take_part, uneven_sizes
from stand_in_device import StandInDevice, StandInStream
from torch import Tensor

from dwdp_lab.execute.cuda.meetings import copy_meeting
from dwdp_lab.execute.cuda.meetings.copy_meeting import CopyMeeting, add_in_order
from dwdp_lab.execute.cuda.meetings.mailboxes import Mailboxes
from dwdp_lab.execute.cuda.meetings.meeting import Sums
from dwdp_lab.execute.cuda.meetings.message_pieces import bytes_of, cut
from dwdp_lab.execute.cuda.memory.transport import TransportName
from dwdp_lab.program.mailbox import UNIT

torch.set_num_threads(1)


def one_of_everything(meeting: CopyMeeting, device: StandInDevice) -> Report:
    stream = device.stream("comm")
    return take_part(meeting, meeting.rank, meeting.ranks, "cpu", stream, device.synchronize)


@pytest.mark.parametrize("shared_by", ["descriptor", "fabric", "ipc"])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_one_of_everything(ranks: int, seed: int, shared_by: TransportName) -> None:
    reports = on_copying_ranks(ranks, seed, one_of_everything, shared_by=shared_by)
    check_rows_of_all(reports, "even", [2] * ranks)
    check_rows_of_all(reports, "uneven", uneven_sizes(ranks))
    check_sums_of_all(reports)
    check_rows_to_each(reports)
    check_messages_and_objects(reports)


def wrong(tasks: Sequence[Task], ranks: int, seed: int, place: int = UNIT, first: int = 0) -> list[tuple[int, int]]:
    """The (rank, task) that did not get what they should have got."""

    def work(meeting: CopyMeeting, device: StandInDevice) -> list[list[Tensor]]:
        return carry_out(meeting, meeting.rank, ranks, tasks, device.stream("comm"), device.synchronize)

    return wrong_tasks(tasks, on_copying_ranks(ranks, seed, work, place, first))


@st.composite
def tasks(draw: st.DrawFn, ranks: int) -> list[Task]:
    """Sizes of nothing, of less than a place and of several, of one after another."""
    made = []
    for _ in range(draw(st.integers(1, 8))):
        kind = draw(st.sampled_from(("gather", "some rows", "sums", "some sums", "add", "swap", "message")))
        even = draw(st.booleans())
        rows = [draw(st.integers(0, 40))] * ranks if even else [draw(st.integers(0, 40)) for _ in range(ranks)]
        source, target = draw(st.permutations(range(ranks)))[:2]
        made.append(Task(kind, tuple(rows), draw(st.integers(1, 9)), (source, target)))
    return made


@pytest.mark.parametrize("ranks", [2, 3, 4])
@settings(max_examples=40, deadline=None)
@given(st.data(), st.integers(0, 2**20))
def test_many_in_a_row_through_few_places(ranks: int, data: st.DataObject, seed: int) -> None:
    """The words begin just before 2**32, and pass it."""
    assert not wrong(data.draw(tasks(ranks)), ranks, seed, UNIT * data.draw(st.integers(1, 3)), 2**32 - 5)


def test_sums_that_are_shared_out_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """As large ones of three ranks and more are."""
    monkeypatch.setattr(copy_meeting, "AT_ONCE_BYTES", 0)
    row = [Task("add", rows, 5) for rows in ((9, 9, 9), (1, 0, 0), (0, 0, 0), (0, 31, 2))]
    for seed in range(10):
        assert not wrong(row, 3, seed)


def test_sums_are_added_in_rank_order_and_rounded_once() -> None:
    def add(meeting: CopyMeeting, device: StandInDevice) -> tuple[Tensor, Tensor]:
        stream: Any = device.stream("comm")
        part = parts[meeting.rank].clone()
        own = torch.empty(10, 64, dtype=torch.bfloat16)
        meeting.scatter_sums(stream, lambda: Sums(parts[meeting.rank], own, [10] * meeting.ranks))
        meeting.add_up(stream, lambda: part)
        device.synchronize()
        return own, part

    for ranks in (2, 3, 4):
        torch.manual_seed(ranks)
        parts = [torch.randn(10 * ranks, 64).bfloat16() for _ in range(ranks)]
        in_order = parts[0].float()
        for part in parts[1:]:
            in_order = in_order + part.float()
        for seed in range(3):
            for rank, (own, whole) in enumerate(on_copying_ranks(ranks, seed, add)):
                assert torch.equal(whole, in_order.bfloat16())
                assert torch.equal(own, whole[10 * rank : 10 * rank + 10])


def test_adding_leaves_its_parts_as_they_are() -> None:
    for dtype in (torch.float32, torch.float16):
        parts = [torch.full((3,), float(2**n), dtype=dtype) for n in range(4)]
        before, out = [part.clone() for part in parts], torch.empty(3, dtype=dtype)
        add_in_order(parts, out)
        assert out.tolist() == [15.0] * 3
        assert all(torch.equal(*pair) for pair in zip(parts, before, strict=True))


KINDS = ("gather", "some rows", "sums", "some sums", "add", "swap", "message", "gather")
ROW = [Task(kind, (30, 30, 30), 8) for kind in KINDS]


def ignored(name: str, stream: str) -> Callable[[pytest.MonkeyPatch], None]:
    """Streams of this name skip a wait."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        right = getattr(StandInStream, name)

        def skip(self: StandInStream, *what: Any) -> None:
            if not self.name.startswith(stream):
                right(self, *what)

        patch.setattr(StandInStream, name, skip)

    return plant


def freed_too_early(patch: pytest.MonkeyPatch) -> None:
    """A place is said to be free before it is read."""
    arrival, consumed = Mailboxes.arrival, Mailboxes.consumed

    def both(self: Mailboxes, stream: Any, peer: int) -> Tensor:
        place = arrival(self, stream, peer)
        consumed(self, stream, peer)
        return place

    patch.setattr(Mailboxes, "arrival", both)
    patch.setattr(Mailboxes, "consumed", lambda *_: None)


PLANTED = {
    "does not wait for consumed": ignored("wait_value", "push"),
    "does not wait for arrived": ignored("wait_value", "comm"),
    "pushes what is not made yet": ignored("wait", "push"),
    "goes on before all is pushed": ignored("wait", "comm"),
    "frees before it reads": freed_too_early,
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_race_shows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy_meeting, "AT_ONCE_BYTES", 0)  # so that what is gathered was added up just before
    assert not any(wrong(ROW, 3, seed) for seed in range(10))
    PLANTED[name](monkeypatch)
    assert any(wrong(ROW, 3, seed) for seed in range(40))


def test_a_sum_that_takes_its_part_s_place_too_early_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    row = [Task("add", (30, 30), 8)]
    assert not any(wrong(row, 2, seed) for seed in range(10))
    PLANTED["goes on before all is pushed"](monkeypatch)
    assert any(wrong(row, 2, seed) for seed in range(40))


def test_ranks_that_wait_for_different_things_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mailboxes, "consumed", lambda *_: None)
    with pytest.raises(Deadlock, match="push 0 has"):
        wrong(ROW, 3, 0)


@given(st.lists(st.integers(0, 3000), max_size=5), st.integers(1, 4))
def test_pieces_are_the_message(sizes: list[int], units: int) -> None:
    message = [torch.randint(0, 255, (size,), dtype=torch.uint8) for size in sizes]
    pieces = cut(message, units * UNIT)
    assert len(pieces) >= -(-sum(sizes) // (units * UNIT))
    found: list[int] = []
    for piece in pieces:
        assert piece
        ends = [0]
        for part in piece:
            assert part.offset >= ends[-1]
            assert part.nbytes > 0
            ends.append(part.offset + part.nbytes)
            found += part.rows.tolist()
        assert ends[-1] <= units * UNIT
    assert found == torch.cat([bytes_of(each) for each in message]).tolist() if message else not found
