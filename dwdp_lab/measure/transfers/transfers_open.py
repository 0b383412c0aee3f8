"""Opening a rank's end of the transfers, and what this rank runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from dwdp_lab.execute.rank_session import RankSession
from dwdp_lab.measure.transfers.transfers import ON_CPU, About, MachineName, Plan, Way
from dwdp_lab.measure.transfers.transfers_end import CopyEnd

if TYPE_CHECKING:
    from dwdp_lab.execute.cuda.gpu.cuda_device import CudaDevice, CudaStream


def about(session: RankSession, machine: MachineName) -> About:
    """What this rank runs on. Raises ImportError without cuda-python's bindings."""
    versions = {"torch": str(torch.__version__)}
    if machine == "cpu":
        return ON_CPU._replace(versions=versions)
    index = gpu_of(session.rank)
    torch.cuda.set_device(index)
    from dwdp_lab.execute.cuda.start import driver_version

    versions |= {"cuda": str(torch.version.cuda)}
    return About(
        torch.cuda.get_device_name(index),
        str(index),
        driver_version(),
        versions,
        (*_cuda_device(index).copy_ways, "kernel", *(("source",) if _own_gpus(session) else ())),
    )


def open_end(session: RankSession, plan: Plan) -> CopyEnd:
    """This rank's memory, shared with all others, and its copies. All ranks call this together."""
    if plan.machine == "cpu":
        from dwdp_lab.measure.transfers.transfers_cpu import CpuEnd

        return CpuEnd(session, plan)
    from dwdp_lab.execute.cuda.memory.choose_transport import choose_transport
    from dwdp_lab.execute.cuda.memory.legacy_ipc import DriverIpc
    from dwdp_lab.measure.transfers.transfers_cuda import CudaEnd

    index = gpu_of(session.rank)
    torch.cuda.set_device(index)
    device = _cuda_device(index)
    transport = choose_transport(session, device.memory, DriverIpc(index), device.torch_device)
    streams: dict[Way, CudaStream] = {}
    for way in device.copy_ways:
        streams[way] = device.stream(f"{way} copies")
        streams[way].way = way
    return CudaEnd(session, plan, device, transport, streams, _own_gpus(session))


def _own_gpus(session: RankSession) -> bool:
    return session.ranks <= torch.cuda.device_count()


def gpu_of(rank: int) -> int:
    """The GPU of a rank, as torch counts GPUs; ranks share them when there are fewer."""
    return rank % torch.cuda.device_count()


def _cuda_device(index: int) -> CudaDevice:
    from dwdp_lab.execute.cuda.gpu.cuda_device import CudaDevice
    from dwdp_lab.execute.cuda.memory.driver_memory import DriverMemory

    return CudaDevice(torch.device("cuda", index), DriverMemory(index))
