"""Whether the GPUs have room for what ranks will keep, asked of the driver before anything is started.

`nvidia-ml-py` tells; without it `nvidia-smi`, which comes with the driver. Neither makes a CUDA context. Where none of
them answers nothing is refused here, and ranks that find no room say so themselves.
"""

from __future__ import annotations

import importlib
import os
import subprocess
from collections.abc import Sequence
from typing import Any, NamedTuple

from dwdp_lab.program.mailbox import mailbox_bytes
from dwdp_lab.program.memory import ledger
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario

PROCESS_BYTES = 1.0e9
"""One rank beside its ledger: the CUDA context, loaded kernels, NCCL's buffers, cuBLAS's workspace. An estimate."""
SMI_TIMEOUT_S = 20


class Gpu(NamedTuple):
    """A GPU as the driver numbers it."""

    uuid: str
    name: str
    free_bytes: float
    capability: tuple[int, int] | None = None
    """Compute capability; None where nobody tells."""


def needed_bytes(scenario: Scenario, embeddings: bool = False) -> float:
    """Of one rank: its process, its mailbox, and as much as the fullest rank's ledger says.

    The ledger counts rows of experts as if all ranks had equally many. Under DEP the host does not know how many a rank
    gets, so there is room for those of all tokens. Ranks keep `embeddings` when they run a model of transformers; the
    lab's own decoder has none.
    """
    name = scenario.strategy.name
    kept = ledger(scenario, name)
    more = 0.0 if embeddings else -kept.embeddings
    if name == "dep":
        batches = scenario.batches
        tokens = [[batches.tokens(rank, step) for rank in range(scenario.ranks)] for step in range(batches.steps)]
        more += kept.activations * (max(map(sum, tokens)) / max(map(max, tokens)) - 1)
    return PROCESS_BYTES + mailbox_bytes(scenario, name) + kept.total + more


def check_gpu_memory(
    scenario: Scenario, gpus: Sequence[Gpu], held_bytes: Sequence[float] = (), embeddings: bool = False
) -> None:
    """Raises ScenarioError (field `model`) when a GPU lacks room for its ranks: rank r is on GPU r modulo their number.

    `held_bytes` is what each rank of a running group has beside its process, and can use again; `embeddings` as in
    `needed_bytes`.
    """
    each = needed_bytes(scenario, embeddings) - (PROCESS_BYTES if held_bytes else 0)
    for number, gpu in enumerate(gpus):
        ranks = range(number, scenario.ranks, len(gpus))
        free = gpu.free_bytes + sum(held_bytes[rank] for rank in ranks if rank < len(held_bytes))
        if len(ranks) * each > free:
            raise ScenarioError(
                "model",
                scenario.model.name,
                f"{len(ranks)} rank{'s' if len(ranks) > 1 else ''} on GPU {number} ({gpu.name}) need about "
                f"{len(ranks) * each / 1e9:.1f} GB of its memory under {scenario.strategy.name}, "
                f"{free / 1e9:.1f} GB are free",
                "set model.layers lower, take more GPUs or a smaller model, or --machine sim",
            )


def visible_gpus() -> tuple[Gpu, ...]:
    """The GPUs that processes started from here will see, in their order; empty when nobody tells."""
    gpus = _by_nvml() or _by_smi()
    return visible(gpus, os.environ.get("CUDA_VISIBLE_DEVICES"))


def visible(gpus: Sequence[Gpu], variable: str | None) -> tuple[Gpu, ...]:
    """Those that CUDA_VISIBLE_DEVICES leaves: numbers, or beginnings of UUIDs, up to the first that is neither."""
    if variable is None:
        return tuple(gpus)
    chosen: list[Gpu] = []
    for word in (word.strip() for word in variable.split(",")):
        if word.isdecimal() and int(word) < len(gpus):
            chosen.append(gpus[int(word)])
            continue
        found = [gpu for gpu in gpus if word.startswith("GPU-") and gpu.uuid.startswith(word)]
        if len(found) != 1:
            break
        chosen += found
    return tuple(chosen)


def _by_nvml() -> tuple[Gpu, ...]:
    try:
        nvml: Any = importlib.import_module("pynvml")
        nvml.nvmlInit()
    except Exception:  # not installed, or no driver: each has errors of its own
        return ()
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(number) for number in range(nvml.nvmlDeviceGetCount())]
        return tuple(
            Gpu(
                nvml.nvmlDeviceGetUUID(each),
                nvml.nvmlDeviceGetName(each),
                nvml.nvmlDeviceGetMemoryInfo(each).free,
                tuple(nvml.nvmlDeviceGetCudaComputeCapability(each)),
            )
            for each in handles
        )
    except nvml.NVMLError:
        return ()
    finally:
        nvml.nvmlShutdown()


def _by_smi() -> tuple[Gpu, ...]:
    command = ["nvidia-smi", "--query-gpu=uuid,name,memory.free", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=SMI_TIMEOUT_S).stdout
        return parsed(told)
    except (OSError, subprocess.SubprocessError, ValueError):
        return ()


def parsed(told: str) -> tuple[Gpu, ...]:
    """nvidia-smi's lines `UUID, name, free MiB`. Raises ValueError for others."""
    rows = [line.split(", ") for line in told.splitlines() if line.strip()]
    return tuple(Gpu(uuid, name, float(mebibytes) * 2**20) for uuid, name, mebibytes in rows)
