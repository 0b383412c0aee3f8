"""Real processes that meet over gloo, as ranks of one group: for what cannot be tried within one process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor

from dwdp_lab.execute.cuda.host_meeting import HostMeeting
from dwdp_lab.execute.cuda.meeting import Gathering, Meeting, Sums, Swap
from dwdp_lab.execute.cuda.nccl_meeting import NcclMeeting

RANKS = 3
Report = dict[str, Any]


class Now:
    """A stream that runs what it is given at once, as torch's operations do on a CPU."""

    def run(self, work: Callable[[], None]) -> None:
        work()


def uneven_all_to_all(incoming: list[Tensor], outgoing: list[Tensor]) -> None:
    """What NCCL does with lists of different sizes, and gloo refuses."""
    rank = dist.get_rank()
    incoming[rank].copy_(outgoing[rank])
    others = [peer for peer in range(dist.get_world_size()) if peer != rank]
    sends = [dist.isend(outgoing[peer].contiguous(), peer) for peer in others]
    for peer in others:
        arrived = torch.empty_like(incoming[peer])
        dist.recv(arrived, peer)
        incoming[peer].copy_(arrived)
    for send in sends:
        assert send is not None
        send.wait()


def take_part(meeting: Meeting, rank: int) -> Report:
    """One of everything, with even and uneven sizes; what this rank got."""
    now: Any = Now()
    report: Report = {}
    for sizes in ([2, 2, 2], [3, 0, 1]):
        name = "even" if len(set(sizes)) == 1 else "uneven"
        own, total = sizes[rank], sum(sizes)
        rows, ids = torch.full((own, 4), float(rank)), torch.full((own, 2), rank, dtype=torch.int32)
        everyone = [torch.empty(total, 4), torch.empty(total, 2, dtype=torch.int32)]
        parts = [Gathering(rows, everyone[0], sizes), Gathering(ids, everyone[1], sizes)]
        meeting.gather(now, lambda parts=parts: parts)  # type: ignore[misc]
        report[f"gather {name}"] = everyone
        partial = (rank + 1) * torch.arange(4.0 * total).view(total, 4)
        sums = Sums(partial, torch.empty(own, 4), sizes)
        meeting.scatter_sums(now, lambda sums=sums: sums)  # type: ignore[misc]
        report[f"sums {name}"] = sums.own
    part = torch.full((2, 4), float(rank))
    meeting.add_up(now, lambda: part)
    report["add up"] = part
    sent = [(rank + peer) % 3 for peer in range(RANKS)]
    outgoing = torch.cat([torch.full((count, 4), 10.0 * rank + peer) for peer, count in enumerate(sent)])
    incoming = torch.empty(sum(sent), 4)  # the table of counts is symmetric
    meeting.swap(now, lambda: [Swap(outgoing, incoming, sent, sent)])
    report["swap"] = incoming
    if rank == 0:
        meeting.send(now, lambda: torch.full((2, 4), 7.0), 2)
    if rank == 2:
        got = torch.empty(2, 4)
        meeting.receive(now, lambda: got, 0)
        report["message"] = got
    report["deal"] = meeting.deal([(rank, peer) for peer in range(RANKS)])
    return report


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(str(Path(folder) / "meeting"), RANKS)  # type: ignore[attr-defined]
    dist.init_process_group("gloo", store=store, rank=rank, world_size=RANKS)
    host = take_part(HostMeeting(RANKS), rank)
    dist.all_to_all = uneven_all_to_all
    nccl = take_part(NcclMeeting(RANKS), rank)
    torch.save((host, nccl), Path(folder) / f"rank {rank}")
    dist.barrier()


def reports(folder: Path) -> list[tuple[Report, Report]]:
    """What each rank got: of the meeting through host memory, and of NCCL's, which gloo stands in for."""
    torch.multiprocessing.spawn(_rank, (str(folder),), RANKS)  # type: ignore[no-untyped-call]
    return [torch.load(folder / f"rank {rank}") for rank in range(RANKS)]
