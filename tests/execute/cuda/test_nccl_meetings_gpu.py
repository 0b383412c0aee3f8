"""NcclMeeting on GPUs: every row where it belongs, and what DEP's traffic of a layer takes (pytest -s prints it)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from gpu_ranks import NEEDS_GPUS
from meeting_checks import check_messages_and_objects, check_rows_of_all, check_rows_to_each, check_sums_of_all
from meeting_processes import uneven_sizes
from nccl_processes import reports_over_nccl

pytestmark = [
    *NEEDS_GPUS,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="NCCL wants a GPU for each rank: two GPUs or more"),
]


def test_collectives_and_messages_over_nccl(tmp_path: Path) -> None:
    ranks = min(4, torch.cuda.device_count())
    found = reports_over_nccl(tmp_path, ranks)
    reports = [report for report, _ in found]
    check_rows_of_all(reports, "even", [2] * ranks)
    check_rows_of_all(reports, "uneven", uneven_sizes(ranks))
    check_sums_of_all(reports)
    check_rows_to_each(reports)
    check_messages_and_objects(reports)
    for name in found[0][1]:
        times = [rates[name] for _, rates in found]
        took_us, received = max(us for us, _ in times), max(nbytes for _, nbytes in times)
        print(f"\n{name}: {took_us:.0f} us, {received / took_us / 1e3:.0f} GB/s from the other ranks", end="")
