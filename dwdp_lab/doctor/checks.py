"""All checks: what each looks at, how long it may take, and what it means when it cannot look."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from dwdp_lab.doctor.facts import Facts
from dwdp_lab.doctor.finding import GPU_FORMS, Finding, Form
from dwdp_lab.doctor.judges import gpus, host, links, packages, processes, settings


class Check(NamedTuple):
    """`probe` names a module of `probes` and a field of Facts.

    `share` is its part of the time for all. `stops` is what we cannot vouch for when the probe fails or is cut off.
    `wanted` says, from the facts of the first round, whether there is anything to look at.
    """

    probe: str
    title: str
    share: float
    judges: tuple[Callable[[Facts], Iterable[Finding]], ...]
    stops: tuple[Form, ...]
    meaning: str
    wanted: Callable[[Facts], bool] = lambda _: True


def _has_torch(facts: Facts) -> bool:
    return facts.packages is None or bool(facts.version("torch") and facts.version("psutil"))


def _has_triton(facts: Facts) -> bool:
    return _has_torch(facts) and (facts.packages is None or facts.version("triton") is not None)


def _can_start_a_kernel(facts: Facts) -> bool:
    return facts.packages is None or facts.version("ipykernel") is not None


def _has_gpus(facts: Facts) -> bool:
    return facts.gpus_usable > 0


FIRST = (
    Check("host", "the computer", 0.3, (host.judge, settings.judge), (), "limits and settings are not known"),
    Check("packages", "packages", 0.3, (packages.judge,), ("simulator", "notebooks"), "what is installed is not known"),
    Check("nvidia", "GPUs", 0.3, (gpus.judge_driver,), GPU_FORMS, "the driver does not answer: it may be broken"),
)
"""Quick, and what the others depend on. The driver is asked about memory before any of our processes takes some."""

SECOND = (
    Check(
        "notebook_kernel",
        "a notebook's kernel",
        0.8,
        (processes.judge_kernel,),
        ("notebooks",),
        "notebooks may not run",
        _can_start_a_kernel,
    ),
    Check(
        "torch_build",
        "torch and CUDA",
        0.5,
        (gpus.judge_torch,),
        ("CPU ranks", *GPU_FORMS),
        "torch does not load",
        _has_torch,
    ),
    Check("triton_kernel", "Triton", 0.6, (links.judge_triton,), ("GPU kernels",), "kernels may not run", _has_triton),
    Check(
        "shared_memory",
        "memory shared by two processes",
        0.8,
        (processes.judge_shared_memory,),
        ("CPU ranks",),
        "CPU ranks may not be able to pull weights",
        _has_torch,
    ),
    Check(
        "rank_processes",
        "rank processes",
        0.8,
        (processes.judge_ranks,),
        ("CPU ranks",),
        "strategies may not run on CPU ranks",
        _has_torch,
    ),
)
"""What loads torch or starts processes."""

THIRD = (
    Check(
        "gpu_pairs",
        "copies between GPUs",
        0.6,
        (links.judge_copies,),
        ("GPU ranks",),
        "nothing may cross between GPUs",
        _has_gpus,
    ),
    Check(
        "peer_memory",
        "exported GPU memory",
        0.6,
        (links.judge_peer_memory,),
        ("GPU ranks",),
        "ranks may not be able to map each other's experts",
        lambda facts: _has_gpus(facts) and facts.gpus_exportable,
    ),
    Check(
        "nccl",
        "NCCL's first collective",
        0.7,
        (links.judge_nccl,),
        ("GPU ranks",),
        "the baselines DEP and weight_gather may not run",
        _has_gpus,
    ),
)
"""What needs GPUs that torch can use."""

ROUNDS = (FIRST, SECOND, THIRD)
