"""DEP's all-to-all by copies: the all-gather form's bits, of fewer rows, with a host that waits for nothing.

What was not sent is NaN here: whatever is computed from it shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from copy_ranks import on_copying_ranks
from stand_in_device import StandInDevice
from stand_in_group import StandInGroup, start_at_once
from test_cuda_schedules import MODEL, scenario
from torch import Tensor

from dwdp_lab.execute.cuda.compute.torch_arithmetic import TorchArithmetic
from dwdp_lab.execute.cuda.exchanges import counted
from dwdp_lab.execute.cuda.meetings.copy_meeting import CopyMeeting, add_in_order
from dwdp_lab.execute.cuda.meetings.mailboxes import Mailboxes
from dwdp_lab.execute.cuda.meetings.meeting import Gathering, Sums
from dwdp_lab.scenario.scenario import Scenario

BY_COPIES = "collectives by copy engine through peer memory"
BY_KERNEL = "an all-to-all's rows are written into peers' memory by a kernel, and the host reads no counts"
NAN_BYTE = 255
"""Of these are NaNs in fp32, bf16 and e4m3."""
PER_EXPERT = {"strategy.dep_form": "all_to_all", "strategy.dep_rows": "per_expert"}
MODELS: dict[str, dict[str, Any]] = {
    "fp32": MODEL,
    "bf16": MODEL | {"name": "bf16", "dtype": "bf16", "expert_dtype": "bf16"},
    "e4m3": MODEL | {"name": "e4m3", "dtype": "bf16", "expert_dtype": "fp8_channel"},
    # rows of 48 bytes and of 96, which pieces cut anywhere; and tokens that visit one rank alone
    "odd": MODEL | {"name": "odd", "hidden": 48, "dtype": "bf16", "expert_dtype": "fp8_channel", "top_k": 1},
}


@pytest.fixture(scope="module", autouse=True)
def at_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        start_at_once(patch)
        patch.setattr("dwdp_lab.execute.cuda.meetings.open_mailboxes.place_bytes", lambda _: 512)
        yield


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """A place holds NaN before the first piece, and again when one was read."""
    begin, consumed = Mailboxes.__init__, Mailboxes.consumed

    def filled(self: Mailboxes, *what: Any) -> None:
        begin(self, *what)
        for places in self._places.values():
            for place in places:
                place.fill_(NAN_BYTE)

    def spoil(self: Mailboxes, stream: Any, peer: int) -> None:
        place = self._places[peer][(self._read[peer] + 1) % 2]
        stream.run(lambda: place.fill_(NAN_BYTE))
        consumed(self, stream, peer)

    monkeypatch.setattr(Mailboxes, "__init__", filled)
    monkeypatch.setattr(Mailboxes, "consumed", spoil)


def bits(group: StandInGroup, work: Scenario, seed: int) -> list[str]:
    group.schedule(seed)
    reports = group.run(work)
    by_kernel = work.strategy.dep_form == "all_to_all" and work.strategy.dep_rows == "per_rank"
    assert all(BY_COPIES in report.notes and (BY_KERNEL in report.notes) == by_kernel for report in reports)
    return [report.output_sha256 for report in reports]


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(
    ("ranks", "model"), [(2, "fp32"), (2, "bf16"), (2, "odd"), (3, "bf16"), (3, "e4m3"), (4, "odd")]
)
def test_the_bits_of_the_all_gather_form(ranks: int, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("the host reads")

    monkeypatch.setattr(counted, "read", never)
    group = StandInGroup(ranks, copies=True)
    base = scenario(ranks, MODELS[model], **{"strategy.name": "dep", "workload.steps": 2})
    uneven = {"kind": "explicit", "lengths": [[7, 2], [], [1], [12]][:ranks]}
    for work in (base, base.replace(workload=uneven)):
        expected = bits(group, work.replace(**{"strategy.dep_form": "all_gather"}), 0)
        for seed in range(2):
            assert bits(group, work.replace(**{"strategy.dep_form": "all_to_all"}), seed) == expected, seed
    group.close()


def test_where_the_host_reads_the_notes_do_not_deny_it() -> None:
    group = StandInGroup(2, copies=True)
    bits(group, scenario(2, **{"strategy.name": "dep", **PER_EXPERT}), 0)
    reports = group.run(
        scenario(2, **{"strategy.name": "dep", "strategy.dep_form": "all_to_all", "strategy.collectives": "nccl"})
    )
    assert not any(BY_KERNEL in report.notes for report in reports)
    group.close()


@pytest.mark.usefixtures("poisoned")
def test_a_row_that_was_not_sent_and_is_added_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    def all_of_them(_: Any, parts: Sequence[Tensor], given: Tensor, columns: int, first: int, out: Tensor) -> None:
        del given, columns, first
        add_in_order(parts, out)

    group = StandInGroup(3, copies=True)
    work = scenario(3, **{"strategy.name": "dep", "strategy.dep_form": "all_to_all"})
    expected = bits(group, work, 0)
    group.close()
    monkeypatch.setattr(TorchArithmetic, "add_rows", all_of_them)
    group = StandInGroup(3, copies=True)
    assert bits(group, work, 0) != expected
    group.close()


def masks(ranks: int, rows: int) -> Tensor:
    return torch.rand(ranks, rows) < 0.5


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_rows_that_are_not_wanted_stay_where_they_are(ranks: int) -> None:
    """Places are zeros when they are made."""
    torch.manual_seed(ranks)
    sizes = [5, 0, 9, 2][:ranks]
    wanted = [masks(ranks, size) for size in sizes]

    def gather(meeting: CopyMeeting, device: StandInDevice) -> Tensor:
        stream: Any = device.stream("comm")
        mine = meeting.rank
        own, everyone = torch.full((sizes[mine], 6), mine + 1.0), torch.full((sum(sizes), 6), -1.0)
        meeting.gather(stream, lambda: [Gathering(own, everyone, sizes, wanted[mine])])
        device.synchronize()
        return everyone

    for rank, everyone in enumerate(on_copying_ranks(ranks, 1, gather)):
        owners = torch.arange(ranks).repeat_interleave(torch.tensor(sizes))
        arrived = torch.cat([each[rank] for each in wanted]) | (owners == rank)
        assert torch.equal(everyone, torch.where(arrived, owners + 1.0, 0.0)[:, None].expand(-1, 6))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_sums_of_rows_that_count_are_those_of_all_where_the_others_are_zeros(ranks: int, dtype: torch.dtype) -> None:
    torch.manual_seed(ranks)
    sizes = [3, 8, 0, 5][:ranks]
    given = masks(ranks, sum(sizes))
    parts = torch.where(given[:, :, None], torch.randn(ranks, sum(sizes), 70).to(dtype), 0.0)

    def add(meeting: CopyMeeting, device: StandInDevice) -> tuple[Tensor, Tensor]:
        stream: Any = device.stream("comm")
        found = []
        for mask in (given, None):
            own = torch.full((sizes[meeting.rank], 70), torch.nan, dtype=dtype)
            part = parts[meeting.rank]
            if mask is not None:
                part = torch.where(mask[meeting.rank, :, None], part, torch.nan)
            meeting.scatter_sums(stream, partial(Sums, part, own, sizes, mask))
            found.append(own)
        device.synchronize()
        return found[0], found[1]

    for seed in range(2):
        for masked, whole in on_copying_ranks(ranks, seed, add, place=256):
            assert torch.equal(masked.view(torch.uint8), whole.view(torch.uint8))
