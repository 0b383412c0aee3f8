"""Calls of the CUDA driver through cuda-python; an error tells what was asked for and what to do about it."""

from __future__ import annotations

import importlib
from typing import Any

import torch

OUT_OF_MEMORY = "CUDA_ERROR_OUT_OF_MEMORY"
_ADVICE = {
    OUT_OF_MEMORY: (
        "the GPU has no room for it: lower model.layers, group.local_experts or strategy.slots, let fewer ranks share "
        "a GPU, or end other processes that use it (nvidia-smi lists them)"
    ),
    "CUDA_ERROR_NOT_SUPPORTED": (
        "this GPU, driver or container does not offer it (some virtual GPUs lack virtual memory management)"
    ),
    "CUDA_ERROR_NOT_PERMITTED": "the driver or container forbids it; fabric handles need an IMEX channel",
    "CUDA_ERROR_INVALID_DEVICE": (
        "the GPUs cannot read each other's memory: choose GPUs that nvidia-smi topo -p2p r shows as OK"
    ),
    "CUDA_ERROR_PEER_ACCESS_UNSUPPORTED": (
        "the GPUs cannot read each other's memory: choose GPUs that nvidia-smi topo -p2p r shows as OK"
    ),
}
_OTHERWISE = "look for Xid messages in the kernel's log, and start the ranks again"


class DriverError(RuntimeError):
    """A driver call failed. `call` is its name, `result` the driver's name for the error, `asked` in words."""

    def __init__(self, call: str, result: str, asked: str) -> None:
        self.call = call
        self.result = result
        self.asked = asked
        super().__init__(f"{call} ({asked}): {result}; {_ADVICE.get(result, _OTHERWISE)}")

    def __reduce__(self) -> tuple[type[DriverError], tuple[str, str, str]]:
        return type(self), (self.call, self.result, self.asked)


def is_out_of_memory(error: Exception) -> bool:
    """Whether the driver only lacked memory, so that the same call may work another time."""
    return isinstance(error, DriverError) and error.result == OUT_OF_MEMORY


def load_driver() -> Any:
    """The driver's bindings (cuda-python). Raises ImportError that says what to install."""
    try:
        return importlib.import_module("cuda.bindings.driver")
    except ImportError as error:
        major = (torch.version.cuda or "13").split(".")[0]
        raise ImportError(
            f"peer memory on GPUs needs the driver's bindings ({error}): pip install 'cuda-bindings=={major}.*', the "
            "major version that torch was built for"
        ) from error


def call(driver: Any, name: str, *arguments: Any, asked: str) -> Any:
    """What a driver function returns besides its result code. Raises DriverError for any code but success."""
    result, *values = getattr(driver, name)(*arguments)
    if int(result) != 0:
        raise DriverError(name, getattr(result, "name", str(result)), asked)
    return values[0] if len(values) == 1 else tuple(values)


def mebibytes(nbytes: int) -> str:
    """A size for messages.

    >>> mebibytes(3 << 20)
    '3 MiB'
    """
    return f"{round(nbytes / (1 << 20)):,} MiB" if nbytes >= 1 << 20 else f"{nbytes} bytes"
