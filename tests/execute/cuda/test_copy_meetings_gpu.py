"""Meetings by copies on real GPUs, also of ranks that share one (pytest -s prints how fast they are)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from copy_jobs import ON_GPU_RANKS
from copy_tasks import Task, wrong_tasks
from gpu_ranks import NEEDS_GPUS, small
from meeting_checks import check_messages_and_objects, check_rows_of_all, check_rows_to_each, check_sums_of_all
from meeting_processes import uneven_sizes
from rank_scenarios import assert_equals_oracle

from dwdp_lab.execute.ranks import Ranks
from dwdp_lab.program.mailbox import MIB, UNIT

pytestmark = NEEDS_GPUS

KINDS = ("gather", "some rows", "sums", "some sums", "add", "swap", "message")
BY_COPIES = "collectives by copy engine through peer memory"


@pytest.fixture(autouse=True)
def rank_processes_find_the_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Path(__file__)
    known = [str(here.parent), str(here.parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(known))


def rows(ranks: int, number: int) -> tuple[int, ...]:
    """Of all ranks: the same number, other ones, none."""
    return (40,) * ranks if number % 3 == 0 else tuple((17 * (rank + 1) * number) % 61 for rank in range(ranks))


def tasks_for(ranks: int) -> list[Task]:
    """Many in a row, so that places are used again and again; messages go round."""
    return [
        Task(KINDS[n % len(KINDS)], rows(ranks, n), 1 + n % 7, (n % ranks, (n + 1 + n // ranks % (ranks - 1)) % ranks))
        for n in range(60)
    ]


@pytest.mark.parametrize("ranks", [2, 3])
def test_rows_and_sums_arrive(ranks: int) -> None:
    tasks = tasks_for(ranks)
    large = [Task(kind, (400,) * ranks, 2048) for kind in KINDS]
    with Ranks(ranks, machine="cuda") as group:
        for given, size, timed in (
            (tasks, UNIT, False),
            (tasks, 9 * UNIT, False),
            (large, MIB, False),
            ([], None, True),
        ):
            answers: list[dict[str, Any]] = group.perform(ON_GPU_RANKS, (given, size, timed))
            assert {answer["failure"] for answer in answers} == {None}
            reports = [answer["report"] for answer in answers]
            check_rows_of_all(reports, "even", [2] * ranks)
            check_rows_of_all(reports, "uneven", uneven_sizes(ranks))
            check_sums_of_all(reports)
            check_rows_to_each(reports)
            check_messages_and_objects(reports)
            assert not wrong_tasks(given, [answer["tasks"] for answer in answers])
    gpus = min(ranks, torch.cuda.device_count())
    print(f"\n{ranks} ranks on {gpus} GPU{'s' if gpus > 1 else ''}, {answers[0]['transport']}", end="")
    for name in answers[0]["rates"]:
        times = [answer["rates"][name] for answer in answers]
        took_us, received = max(us for us, _ in times), max(nbytes for _, nbytes in times)
        print(f"\n{name}: {took_us:.0f} us, {received / took_us / 1e3:.0f} GB/s from the other ranks", end="")


FORMS: list[dict[str, Any]] = [
    {"strategy.name": "dep", "strategy.dep_form": "all_gather"},
    {"strategy.name": "dep", "strategy.dep_form": "all_to_all"},
    {"strategy.name": "tensor"},
    {"strategy.name": "pipeline"},
    {"strategy.name": "weight_gather"},
]


@pytest.mark.parametrize("ranks", [2, 3])
def test_strategies_compute_the_model_and_the_same_bits_every_time(ranks: int) -> None:
    with Ranks(ranks, machine="cuda") as group:
        for form in FORMS:
            work = small(ranks, **form, **{"strategy.collectives": "copy"})
            first = group.run(work, outputs=True)
            assert BY_COPIES in first.timeline.notes
            assert_equals_oracle(work, first)
            again = [group.run(work).output_sha256 for _ in range(3)]
            assert all(hashes == first.output_sha256 for hashes in again), form
            assert first.timeline.environment["host_waits"] == 0, form


def test_sums_of_two_ranks_are_nccl_s_bit_for_bit() -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("NCCL wants a GPU for each rank: two GPUs or more")
    with Ranks(2, machine="cuda") as group:
        for form in FORMS:
            base = small(2, **form)
            found = [group.run(base.replace(**{"strategy.collectives": way})) for way in ("copy", "nccl")]
            assert found[0].output_sha256 == found[1].output_sha256, form
            assert [BY_COPIES in run.timeline.notes for run in found] == [True, False]
