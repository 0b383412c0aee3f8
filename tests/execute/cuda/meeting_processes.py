"""Real processes that meet, as ranks of one group: for what cannot be tried within one process.

Over gloo anywhere; over NCCL where each has a GPU of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor

from dwdp_lab.execute.cuda.meetings.host_meeting import HostMeeting
from dwdp_lab.execute.cuda.meetings.meeting import Gathering, Meeting, Sums, Swap
from dwdp_lab.execute.cuda.meetings.nccl_meeting import NcclMeeting

RANKS = 3
Report = dict[str, Any]


class Now:
    """A stream that runs what it is given at once: on a CPU as torch's operations do, on a GPU on the current one."""

    def run(self, work: Callable[[], None]) -> None:
        work()


def uneven_sizes(ranks: int) -> list[int]:
    """Rows of each rank; one has none."""
    return [3, 0, 1, 2][:ranks]


def take_part(
    meeting: Meeting,
    rank: int,
    ranks: int = RANKS,
    device: str = "cpu",
    stream: Any = None,
    done: Callable[[], None] = lambda: None,
) -> Report:
    """One of everything, with even and uneven sizes; what this rank got, in host memory. `done` returns when all that
    the stream was given has ended."""
    now: Any = stream or Now()
    report: Report = {}

    def full(rows: int, columns: int, value: float, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.full((rows, columns), value, dtype=dtype, device=device)

    for name, sizes in (("even", [2] * ranks), ("uneven", uneven_sizes(ranks))):
        own, total = sizes[rank], sum(sizes)
        rows, ids = full(own, 4, float(rank)), full(own, 2, rank, torch.int32)
        everyone = [full(total, 4, -1.0), full(total, 2, -1, torch.int32)]
        parts = [Gathering(rows, everyone[0], sizes), Gathering(ids, everyone[1], sizes)]
        meeting.gather(now, lambda parts=parts: parts)  # type: ignore[misc]
        report[f"gather {name}"] = everyone
        partial = (rank + 1) * torch.arange(4.0 * total, device=device).view(total, 4)
        sums = Sums(partial, full(own, 4, -1.0), sizes)
        meeting.scatter_sums(now, lambda sums=sums: sums)  # type: ignore[misc]
        report[f"sums {name}"] = sums.own
    part = full(2, 4, float(rank))
    meeting.add_up(now, lambda: part)
    report["add up"] = part
    sent = [(rank + peer) % 3 for peer in range(ranks)]  # the table of counts is symmetric, and has zeros
    outgoing = torch.cat([full(count, 4, 10.0 * rank + peer) for peer, count in enumerate(sent)])
    incoming, ids = full(sum(sent), 4, -1.0), full(sum(sent), 1, -1, torch.int32)
    meeting.swap(
        now, lambda: [Swap(outgoing, incoming, sent, sent), Swap(outgoing[:, :1].int().contiguous(), ids, sent, sent)]
    )
    report["swap"] = incoming
    report["swap ids"] = ids
    if rank == 0:
        meeting.send(now, lambda: full(2, 4, 7.0), ranks - 1)
    if rank == ranks - 1:
        got = full(2, 4, -1.0)
        meeting.receive(now, lambda: got, 0)
        report["message"] = got
    report["deal"] = meeting.deal([(rank, peer) for peer in range(ranks)])
    done()
    return {name: _on_host(value) for name, value in report.items()}


def _on_host(value: Any) -> Any:
    if isinstance(value, list):
        return [_on_host(each) for each in value]
    return value.cpu() if isinstance(value, Tensor) else value


def _rank_over_gloo(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(str(Path(folder) / "meeting"), RANKS)  # type: ignore[attr-defined]
    dist.init_process_group("gloo", store=store, rank=rank, world_size=RANKS)
    both = take_part(HostMeeting(RANKS), rank), take_part(NcclMeeting(RANKS, rank), rank)
    torch.save(both, Path(folder) / f"rank {rank}")
    dist.barrier()


def reports(folder: Path) -> list[tuple[Report, Report]]:
    """What each rank got: of the meeting through host memory, and of NCCL's, which gloo stands in for."""
    torch.multiprocessing.spawn(_rank_over_gloo, (str(folder),), RANKS)  # type: ignore[no-untyped-call]
    return [torch.load(folder / f"rank {rank}") for rank in range(RANKS)]
