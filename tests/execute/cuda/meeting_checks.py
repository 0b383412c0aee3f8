"""What every rank has to get of the meetings that meeting_processes.py holds, for any number of ranks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from meeting_processes import Report


def check_rows_of_all(reports: Sequence[Report], name: str, sizes: Sequence[int]) -> None:
    owners = torch.arange(len(reports)).repeat_interleave(torch.tensor(sizes))
    counted = torch.arange(4.0 * sum(sizes)).view(-1, 4)
    factors = len(reports) * (len(reports) + 1) / 2  # rank r gives r + 1 times what is counted
    for rank, report in enumerate(reports):
        rows, ids = report[f"gather {name}"]
        assert torch.equal(rows, owners[:, None].expand(-1, 4).float())
        assert torch.equal(ids, owners[:, None].expand(-1, 2).int())
        begin = sum(sizes[:rank])
        assert torch.equal(report[f"sums {name}"], factors * counted[begin : begin + sizes[rank]])


def check_sums_of_all(reports: Sequence[Report]) -> None:
    total = float(sum(range(len(reports))))
    for report in reports:
        assert torch.equal(report["add up"], torch.full((2, 4), total))


def check_rows_to_each(reports: Sequence[Report]) -> None:
    for rank, report in enumerate(reports):
        expected = [10 * peer + rank for peer in range(len(reports)) for _ in range((rank + peer) % 3)]
        assert report["swap"][:, 0].tolist() == expected
        assert report["swap ids"][:, 0].tolist() == expected


def check_messages_and_objects(reports: Sequence[Report]) -> None:
    assert torch.equal(reports[-1]["message"], torch.full((2, 4), 7.0))
    for rank, report in enumerate(reports):
        assert report["deal"] == [(peer, rank) for peer in range(len(reports))]
