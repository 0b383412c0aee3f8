"""What a rank process does to become a rank of the CUDA machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from dwdp_lab.execute.cpu.process_group import join_process_group
from dwdp_lab.execute.cuda.gpu.copy_ways import CopyWays
from dwdp_lab.execute.cuda.gpu.cuda_device import CudaDevice
from dwdp_lab.execute.cuda.gpu.memory_use import MemoryUse
from dwdp_lab.execute.cuda.gpu.queue_watch import QueueWatch
from dwdp_lab.execute.cuda.gpu.sensor_process import SensorProcess
from dwdp_lab.execute.cuda.kept import Kept
from dwdp_lab.execute.cuda.meetings.host_meeting import HostMeeting
from dwdp_lab.execute.cuda.meetings.meeting import Meeting
from dwdp_lab.execute.cuda.meetings.nccl_meeting import NcclMeeting
from dwdp_lab.execute.cuda.memory.driver_memory import DriverMemory
from dwdp_lab.execute.cuda.memory.legacy_ipc import DriverIpc
from dwdp_lab.execute.cuda.rank_machine import RankMachine
from dwdp_lab.execute.cuda.run_order import run_order
from dwdp_lab.execute.messages import Finished, Order
from dwdp_lab.execute.rank_session import RankSession


class Started(NamedTuple):
    """A rank that can run: what it says about where, and how it obeys."""

    environment: dict[str, Any]
    run_order: Callable[[Order], Finished]


def start(session: RankSession) -> Started:
    """Take this rank's GPU; several ranks share one where there are fewer. Raises whatever stands in the way."""
    gpus = torch.cuda.device_count()
    if not gpus:
        raise RuntimeError("this process sees no GPU: torch.cuda.device_count() is 0")
    index = session.rank % gpus
    torch.cuda.set_device(index)
    device = CudaDevice(torch.device("cuda", index), DriverMemory(index))
    properties = torch.cuda.get_device_properties(index)
    first = session.rank == index  # of the ranks on its GPU: it looks after sensors and memory
    sensors = SensorProcess(f"GPU-{properties.uuid}") if first else None
    if sensors is not None:
        # it would end by itself, but in a container the first process, whose child it became, may never wait for it
        session.before_leaving.append(sensors.close)
    machine = RankMachine(
        device,
        Kept(device, DriverIpc(index)),
        partial(join, gpus),
        CopyWays(device).set,
        MemoryUse(index).beside_what_was if first else None,
        sensors,
        QueueWatch(index),
        copies=True,
    )
    return Started(_environment(session, gpus, properties.name), partial(run_order, session, machine))


def join(gpus: int, session: RankSession) -> Meeting:
    """Meet all other ranks; all must call this together. NCCL wants a GPU for each rank."""
    if session.ranks > gpus:
        join_process_group(session)
        return HostMeeting(session.ranks)
    # in a capture NCCL would register the buffers as if each were one allocation; slots consist of several
    os.environ.setdefault("NCCL_GRAPH_REGISTER", "0")
    join_process_group(session, "cpu:gloo,cuda:nccl", torch.device("cuda", session.rank))
    return NcclMeeting(session.ranks, session.rank)


def _environment(session: RankSession, gpus: int, name: str) -> dict[str, Any]:
    return {
        "torch": str(torch.__version__),
        "device": name,
        "gpus": gpus,
        "ranks_per_gpu": -(-session.ranks // gpus),
        "driver": driver_version(),
        "cuda": str(torch.version.cuda),
        "nccl": ".".join(map(str, torch.cuda.nccl.version())),  # type: ignore[no-untyped-call]
        "triton": _triton_version(),
    }


def driver_version() -> str | None:
    """The kernel driver's version, which torch does not tell."""
    try:
        return Path("/sys/module/nvidia/version").read_text(encoding="ascii").strip()
    except OSError:
        return None


def _triton_version() -> str:
    import triton  # loaded here once, so that no first run has to wait for it

    return str(triton.__version__)
