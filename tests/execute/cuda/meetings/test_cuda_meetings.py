"""Collectives and messages bring every row where it belongs, for equal and unequal numbers of rows."""

from __future__ import annotations

from pathlib import Path

import pytest
from meeting_checks import (
    check_messages_and_objects,
    check_rows_of_all,
    check_rows_to_each,
    check_sums_of_all,
)
from meeting_processes import RANKS, Report, reports, uneven_sizes

pytestmark = pytest.mark.ranks


@pytest.fixture(scope="module")
def everyone(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Report, Report]]:
    folder: Path = tmp_path_factory.mktemp("meetings")
    return reports(folder)


@pytest.fixture(params=["host", "nccl"])
def ranks(request: pytest.FixtureRequest, everyone: list[tuple[Report, Report]]) -> list[Report]:
    return [report[request.param == "nccl"] for report in everyone]


@pytest.mark.parametrize(("name", "sizes"), [("even", [2] * RANKS), ("uneven", uneven_sizes(RANKS))])
def test_rows_of_all_ranks(ranks: list[Report], name: str, sizes: list[int]) -> None:
    check_rows_of_all(ranks, name, sizes)


def test_sums_of_all_ranks(ranks: list[Report]) -> None:
    check_sums_of_all(ranks)


def test_rows_to_each_rank(ranks: list[Report]) -> None:
    check_rows_to_each(ranks)


def test_messages_and_objects(ranks: list[Report]) -> None:
    check_messages_and_objects(ranks)
