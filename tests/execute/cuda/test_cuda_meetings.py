"""Collectives and messages bring every row where it belongs, for equal and unequal numbers of rows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from meeting_processes import RANKS, Report, reports

pytestmark = pytest.mark.ranks


@pytest.fixture(scope="module")
def everyone(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Report, Report]]:
    folder: Path = tmp_path_factory.mktemp("meetings")
    return reports(folder)


@pytest.fixture(params=["host", "nccl"])
def ranks(request: pytest.FixtureRequest, everyone: list[tuple[Report, Report]]) -> list[Report]:
    return [report[request.param == "nccl"] for report in everyone]


@pytest.mark.parametrize(("name", "sizes"), [("even", [2, 2, 2]), ("uneven", [3, 0, 1])])
def test_rows_of_all_ranks(ranks: list[Report], name: str, sizes: list[int]) -> None:
    owners = torch.arange(RANKS).repeat_interleave(torch.tensor(sizes))
    counted = torch.arange(4.0 * sum(sizes)).view(-1, 4)
    for rank, report in enumerate(ranks):
        rows, ids = report[f"gather {name}"]
        assert torch.equal(rows, owners[:, None].expand(-1, 4).float())
        assert torch.equal(ids, owners[:, None].expand(-1, 2).int())
        begin = sum(sizes[:rank])
        assert torch.equal(report[f"sums {name}"], 6 * counted[begin : begin + sizes[rank]])  # 1 + 2 + 3


def test_sums_of_all_ranks(ranks: list[Report]) -> None:
    for report in ranks:
        assert torch.equal(report["add up"], torch.full((2, 4), 3.0))


def test_rows_to_each_rank(ranks: list[Report]) -> None:
    for rank, report in enumerate(ranks):
        expected = [10 * peer + rank for peer in range(RANKS) for _ in range((rank + peer) % 3)]
        assert report["swap"][:, 0].tolist() == expected


def test_messages_and_objects(ranks: list[Report]) -> None:
    assert torch.equal(ranks[2]["message"], torch.full((2, 4), 7.0))
    for rank, report in enumerate(ranks):
        assert report["deal"] == [(peer, rank) for peer in range(RANKS)]
