"""torch: what it was built for, and what it sees."""

from __future__ import annotations

import ctypes
from typing import NamedTuple


class TorchGpu(NamedTuple):
    name: str
    capability: tuple[int, int]


class TorchFacts(NamedTuple):
    """`cuda` is the version torch was built for, empty for a CPU build; `trouble` is why it cannot use the GPUs."""

    version: str
    cuda: str
    trouble: str
    gpus: tuple[TorchGpu, ...]
    arches: tuple[str, ...]
    nccl: str
    gloo: bool
    driver_cuda: str
    """The newest CUDA that the driver supports; empty without a driver."""


def probe() -> TorchFacts:
    import torch
    from torch import distributed

    gpus: tuple[TorchGpu, ...] = ()
    trouble, nccl = "", ""
    if torch.version.cuda:
        try:
            torch.cuda.init()  # type: ignore[no-untyped-call]
            gpus = tuple(
                TorchGpu(torch.cuda.get_device_name(index), torch.cuda.get_device_capability(index))
                for index in range(torch.cuda.device_count())
            )
        except (RuntimeError, AssertionError, torch.cuda.DeferredCudaCallError) as error:
            trouble = " ".join(str(error).split())
        if distributed.is_available() and distributed.is_nccl_available():
            nccl = ".".join(map(str, torch.cuda.nccl.version()))  # type: ignore[no-untyped-call]
    return TorchFacts(
        version=str(torch.__version__),
        cuda=torch.version.cuda or "",
        trouble=trouble,
        gpus=gpus,
        arches=tuple(torch.cuda.get_arch_list()) if gpus else (),
        nccl=nccl,
        gloo=distributed.is_available() and distributed.is_gloo_available(),
        driver_cuda=_driver_cuda(),
    )


def _driver_cuda() -> str:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return ""
    version = ctypes.c_int()
    if driver.cuDriverGetVersion(ctypes.byref(version)):
        return ""
    return f"{version.value // 1000}.{version.value % 1000 // 10}"
