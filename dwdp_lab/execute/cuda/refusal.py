"""Why GPU ranks cannot run here, or not this scenario: told by the session before anything is started.

None of this makes a CUDA context: one takes hundreds of megabytes of every GPU and stays as long as the process.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from dwdp_lab.execute.cuda.gpu_memory import Gpu
from dwdp_lab.model.supported import SCALED
from dwdp_lab.program.mailbox import MEETING
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.shares import share_of

TILE = 16
"""Rows and columns of an expert's weights are multiples of this (kernels/expert_table.py)."""
LEAST_FOR_E4M3 = (8, 9)
"""Ada's compute capability (kernels/quantise_rows.py)."""
ELSEWHERE = "take --machine cpu or sim"


def check_gpus_here() -> None:
    """Raises ScenarioError when no GPU rank can run on this machine: what is missing, and what to do."""
    if not _installed("torch"):
        raise _missing("torch is not installed", "pip install 'dwdp-lab[lab]'")
    import torch

    if torch.version.cuda is None:
        reason = f"this torch ({torch.__version__}) was built without CUDA"
        raise _missing(reason, "install a CUDA build (https://pytorch.org/get-started/locally), or " + ELSEWHERE)
    if not torch.cuda.device_count():
        reason = "torch finds no NVIDIA GPU"
        raise _missing(reason, "see what nvidia-smi and CUDA_VISIBLE_DEVICES say, or " + ELSEWHERE)
    if not _installed("triton"):
        raise _missing("Triton is not installed, and the experts' kernels need it", "pip install triton")
    if not _installed("cuda.bindings"):
        major = torch.version.cuda.partition(".")[0]
        raise _missing("the CUDA driver's Python bindings are missing", f"pip install 'cuda-bindings=={major}.*'")


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # the package that it is part of
        return False


def _missing(reason: str, hint: str) -> ScenarioError:
    return ScenarioError("machine", "cuda", reason, hint)


def check_collectives(scenario: Scenario, gpus: int) -> None:
    """Raises ScenarioError when ranks are to meet over NCCL and there are not as many GPUs."""
    strategy, ranks = scenario.strategy, scenario.ranks
    if strategy.collectives == "nccl" and strategy.name in MEETING and ranks > gpus:
        allowed = f"NCCL wants a GPU for each rank, and these are {ranks} ranks on {gpus} GPUs"
        raise ScenarioError("strategy.collectives", "nccl", allowed, "take auto or copy, or as many ranks as GPUs")


def check_fits_kernels(scenario: Scenario) -> None:
    """Raises ScenarioError for shapes that the GPU's kernels cannot compute, beyond what all ranks refuse."""
    model = scenario.model
    if model.expert_dtype not in (model.dtype, SCALED):
        allowed = (
            f"on GPU ranks it must be model.dtype ({model.dtype}), as tensor cores multiply two of a kind, or {SCALED}"
        )
        raise ScenarioError("model.expert_dtype", model.expert_dtype, allowed, ELSEWHERE)
    for field, width in (("hidden", model.hidden), ("expert_intermediate", model.expert_intermediate)):
        if width % TILE:
            allowed = f"on GPU ranks it must be a multiple of {TILE}, as tensor cores take weights in such tiles"
            raise ScenarioError(f"model.{field}", width, allowed, f"take {-(-width // TILE) * TILE}, or --machine cpu")
    if scenario.strategy.name == "dep" and model.experts < scenario.ranks:
        allowed = f"on GPU ranks every one of {scenario.ranks} ranks of dep computes one at least"
        raise ScenarioError("model.experts", model.experts, allowed, "take fewer ranks, or --machine cpu")
    if scenario.strategy.name == "tensor":
        widths = [len(share_of(model, scenario.ranks, rank).columns) for rank in range(scenario.ranks)]
        if any(width % TILE or not width for width in widths):
            allowed = (
                f"split over {scenario.ranks} ranks it leaves {min(widths)} columns of an expert to one; on GPU ranks "
                f"all need a multiple of {TILE}"
            )
            raise ScenarioError("model.expert_intermediate", model.expert_intermediate, allowed, "take fewer ranks")


def check_multiplies_e4m3(scenario: Scenario, gpus: Sequence[Gpu]) -> None:
    """Raises ScenarioError for experts in e4m3 where one of the GPUs is known to have no 8-bit floats."""
    if scenario.model.expert_dtype != SCALED:
        return
    for number, gpu in enumerate(gpus):
        if gpu.capability is not None and gpu.capability < LEAST_FOR_E4M3:
            least, has = (".".join(map(str, each)) for each in (LEAST_FOR_E4M3, gpu.capability))
            reason = f"needs GPUs of compute capability {least} or later, and GPU {number} ({gpu.name}) has {has}"
            hint = f"take {scenario.model.dtype}, or " + ELSEWHERE
            raise ScenarioError("model.expert_dtype", SCALED, reason, hint)
