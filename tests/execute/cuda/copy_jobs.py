"""What GPU ranks do for the tests of their meetings by copies; called in rank processes (Ranks.perform)."""

from __future__ import annotations

import faulthandler
from typing import Any

import torch
from copy_tasks import Task, carry_out
from meeting_processes import take_part
from nccl_processes import rates
from torch import Tensor

from dwdp_lab.execute.cuda.gpu.cuda_device import CudaDevice
from dwdp_lab.execute.cuda.meetings.copy_meeting import CopyMeeting
from dwdp_lab.execute.cuda.meetings.open_mailboxes import OpenMailboxes
from dwdp_lab.execute.cuda.memory.choose_transport import choose_transport
from dwdp_lab.execute.cuda.memory.driver_memory import DriverMemory
from dwdp_lab.execute.cuda.memory.legacy_ipc import DriverIpc
from dwdp_lab.execute.cuda.start import join
from dwdp_lab.execute.rank_session import RankSession

LONGEST_S = 90
"""Ranks that wait for each other so long wait for ever: they say where, and end."""
ON_GPU_RANKS = "copy_jobs:meet_by_copies"


def meet_by_copies(session: RankSession, parameters: tuple[list[Task], int | None, bool]) -> dict[str, Any]:
    """One of everything, some tasks through places of a size (None: the usual one), and how fast it is if asked for.

    Then everything is given back: a second job on the same ranks makes mailboxes anew.
    """
    tasks, size, timed = parameters
    faulthandler.dump_traceback_later(LONGEST_S, exit=True)
    index = torch.cuda.current_device()
    device = CudaDevice(torch.device("cuda", index), DriverMemory(index))
    underneath = join(torch.cuda.device_count(), session)
    transport = choose_transport(session, device.memory, DriverIpc(index), device.torch_device)
    opened = OpenMailboxes(session, device, transport, size, 2**32 - 20)
    if opened.boxes is None:
        return {"failure": opened.failure}
    meeting, stream = CopyMeeting(device, device.stream("push"), opened.boxes, underneath), device.stream("comm")
    rank, ranks = session.rank, session.ranks
    with torch.inference_mode(), torch.cuda.stream(stream.stream):
        report = take_part(meeting, rank, ranks, "cuda", stream, device.synchronize)
        with torch.device("cuda"):
            got = carry_out(meeting, rank, ranks, tasks, stream, device.synchronize)
        speed = rates(meeting, rank, ranks, stream) if timed else {}
    opened.close(session)
    faulthandler.cancel_dump_traceback_later()
    return {
        "failure": None,
        "transport": transport.words,
        "report": report,
        "tasks": [[_plain(each) for each in of_task] for of_task in got],
        "rates": speed,
    }


def _plain(tensor: Tensor) -> Tensor:
    return tensor.cpu().clone()
